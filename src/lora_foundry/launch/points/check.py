"""Wrong keys and group options of a command line, all at once, before Hydra composes anything."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, QuotedString
from hydra.errors import OverrideParseException

from lora_foundry.config.called import command_line
from lora_foundry.config.hints import choices_with, hint_of, known_keys
from lora_foundry.config.keys import is_group, takes_list
from lora_foundry.config.longer import KEYS
from lora_foundry.config.parse import key_hint, nearest
from lora_foundry.config.paths import OWN_CONFIGS, SHIPPED, own_configs
from lora_foundry.config.quoting import quoted, shell
from lora_foundry.launch.points.argv import CommandLine
from lora_foundry.launch.points.hydra_keys import hydra_problem, is_hydra
from lora_foundry.launch.points.texts import is_text

_KEY = re.compile(r"[A-Za-z_][\w./@:-]*", re.ASCII)
_UNCLOSED = re.compile(r"\[[^\]]*$|\([^)]*$|\{[^}]*$")
_RESUME_ALLOWS = ("resume", "tracking")


def group_options(dirs: Iterable[Path] | None = None) -> dict[str, list[str]]:
    """Group name to its options, from the YAML files below ``dirs``; of Hydra's own groups those that lie there.

    Args:
        dirs: Folders of configs; by default the project's, and the user's own that the environment names.
    """
    groups: dict[str, set[str]] = {}
    for folder in [SHIPPED / "conf", SHIPPED / "sweeps", *own_configs()] if dirs is None else dirs:
        for file in sorted(folder.glob("*/**/*.y*ml")):
            groups.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    return {group: sorted(options) for group, options in groups.items()}


def problems_of_line(line: CommandLine) -> list[str]:
    """A line for each override of a command line that cannot work, and for each folder of configs that is not there."""
    if "--shell-completion" in line.flags:
        return []  # its word is checked with the flags
    folders = folders_of(line)
    missing = missing_folders(folders)
    groups = group_options(folders) if line.overrides else {}
    return [*missing, *problems_of(line.overrides, groups, sweeping=line.sweep or line.info)]


def missing_folders(folders: Iterable[Path]) -> list[str]:
    """A line for each folder of configs that is not there."""
    named = dict.fromkeys(own_configs(), f" ({OWN_CONFIGS})")
    return [f"{folder}{named.get(folder, '')}: no such folder of configs" for folder in folders if not folder.is_dir()]


def folders_of(line: CommandLine) -> list[Path]:
    """Where the groups of a command line lie: the project's folders, and the user's own."""
    project = [Path(line.config_path()), SHIPPED / "sweeps"]
    return [*project, *own_configs(), *line.config_dirs(), *_search_path(line.overrides)]


def _search_path(overrides: Sequence[str]) -> list[Path]:
    """Folders that ``hydra.searchpath`` names; packages (``pkg://``) are left to Hydra."""
    found: list[object] = []
    for word in overrides:
        if word.startswith("hydra.searchpath="):
            with contextlib.suppress(OverrideParseException):
                value = OverridesParser.create().parse_overrides([word])[0].value()
                found = value if isinstance(value, list) else []
    return [
        Path(str(one).removeprefix("file://")) for one in found if not str(one).startswith(("pkg://", "structured://"))
    ]


def problems_of(overrides: Sequence[str], groups: Mapping[str, list[str]], *, sweeping: bool) -> list[str]:
    """One line for each override that cannot work; empty when all can.

    Args:
        overrides: Words such as ``lora.rank=4,8``.
        groups: What :func:`group_options` found.
        sweeping: Whether lists of values are meant as a sweep (``-m``, or a named sweep).
    """
    problems: list[str] = []
    parsed: list[Override] = []
    parser = OverridesParser.create()
    for word in overrides:
        try:
            parsed.extend(parser.parse_overrides([word]))
        except OverrideParseException as error:
            problems.append(_unreadable(word, error))
    sweeping = sweeping or any(chooses_files(override, groups) for override in parsed)
    for override in parsed:
        if is_hydra(override.key_or_group):
            problem = hydra_problem(override, groups)
        else:
            problem = _problem(override, groups, sweeping=sweeping)
        problems.extend([problem] if problem else [])
    problems.extend(_resume_problems(parsed))
    return problems


def chooses_files(override: Override, groups: Mapping[str, list[str]]) -> bool:
    """Whether ``override`` chooses a file that may say anything (a named sweep), ``hydra.mode: MULTIRUN`` too."""
    key = override.key_or_group
    return key in groups and not is_group(key) and not is_hydra(override.key_or_group) and override.value() is not None


def without_m(override: Override) -> str:
    """What is said of several values where nothing says that they are to be swept."""
    word = override.input_line or override.key_or_group
    value = word.partition("=")[2]
    key = override.key_or_group
    instead = f", or write [{value}] for one list" if takes_list(key) else ""
    if is_text(hint_of(key)) and not instead:
        instead = f", or quote a text with commas: {shell([f'{key}={quoted(value)}'])}"
    return f"{word}: several values without -m; add -m to train one adapter for each{instead}"


def _unreadable(word: str, error: OverrideParseException) -> str:
    if "=" not in word and not word.startswith("~"):
        return f"{word!r}: got a word without '=', allowed is key=value ({command_line('train')} --help shows examples)"
    key = word.partition("=")[0].lstrip("+~")
    if not _KEY.fullmatch(key):
        return f"{word!r}: {key!r} is no key{nearest(key, known_keys())}"
    if error.__cause__ is not None:  # of a function: its name, or what it was given
        return f"{word!r}: {', '.join(str(error.__cause__).split(chr(10))).rstrip(', ')}"
    if _UNCLOSED.search(word.partition("=")[2]):
        return f"{word!r}: a bracket is opened and not closed"
    reason = str(error.message).splitlines()[0] if error.message else "it cannot be read"
    return f"{word!r}: {reason}; quote values with spaces or commas: 'key=\"a, b\"'"


def _problem(override: Override, groups: Mapping[str, list[str]], *, sweeping: bool) -> str | None:
    key = override.key_or_group
    if key in groups and not isinstance(override.value(), dict):
        return _option_problem(override, groups[key], sweeping=sweeping)
    if override.package is not None:
        return f"{override.get_key_element()}: no package can be given here; write {key}=..."
    keys = known_keys()
    unknown = [leaf for leaf in _leaves(key, override.value()) if not _is_known(leaf, keys)]
    if unknown:
        return f"{unknown[0]}: no such key{key_hint(unknown[0], [*keys, *groups])}"
    return _prefix_problem(override) or (without_m(override) if override.is_sweep_override() and not sweeping else None)


def _prefix_problem(override: Override) -> str | None:
    key = override.key_or_group
    if override.type is OverrideType.DEL:
        return f"~{key}: every key is needed; give another value instead ({key}=null where null is allowed)"
    if override.type is OverrideType.ADD and not choices_with(key):  # the file that was chosen may not list an option
        return f"+{key}: the key exists already; write it without the +"
    return None


def _leaves(key: str, value: Any) -> Iterator[str]:  # noqa: ANN401  # whatever the grammar reads
    """The keys that a mapping laid over a group sets; otherwise ``key`` itself."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key


def _is_known(key: str, keys: list[str]) -> bool:
    head, _, tail = key.rpartition(".")
    return key in keys or (tail.isdigit() and head in keys)


def _option_problem(override: Override, options: list[str], *, sweeping: bool) -> str | None:
    problem = _choice_problem(override, options)
    return problem or (without_m(override) if override.is_sweep_override() and not sweeping else None)


def _choice_problem(override: Override, options: list[str]) -> str | None:
    key, allowed = override.key_or_group, f"allowed is one of {', '.join(options)}"
    if override.type is OverrideType.DEL:
        return f"~{key}: every group is needed; choose another option: {', '.join(options)}"
    if override.value() is None:
        return f"{key}: got null, {allowed if is_group(key) else 'leave it out to choose none'}"
    wrong = [name for name in _named(override) if name not in options]
    if wrong:
        got = ", ".join(repr(name) for name in wrong)
        return f"{key}: got {got}, {allowed}{nearest(wrong[0], options)}"
    if is_group(key) and any(isinstance(item, list) for item in _items(override.value())):
        return f"{override.input_line}: a job has one {key}; {allowed}, or several with commas and -m, a job for each"
    if override.type is OverrideType.ADD and is_group(key):
        return f"+{key}: the group has a choice already; write it without the +"
    return None


def _named(override: Override) -> list[str]:
    value = override.value()
    if override.is_sweep_override() and not isinstance(value, ChoiceSweep):
        return []  # a glob chooses among what exists
    return [_text(name) for item in _items(value) for name in (item if isinstance(item, list) else [item])]


def _items(value: Any) -> list[Any]:  # noqa: ANN401  # whatever the grammar reads
    """What is chosen among: the parts of a sweep, or the value alone."""
    return list(value.list) if isinstance(value, ChoiceSweep) else [value]


def _text(item: object) -> str:
    return item.text if isinstance(item, QuotedString) else str(item)


def _resume_problems(parsed: list[Override]) -> list[str]:
    resumes = [o for o in parsed if o.key_or_group == "resume" and o.value() is not None]
    if not resumes:
        return []
    problems = []
    if resumes[-1].is_sweep_override():
        problems.append(f"{resumes[-1].input_line}: one job is resumed at a time; give one folder")
    problems.extend(
        f"{override.input_line}: not together with resume=, which takes the job's stored configuration; "
        f"allowed beside it are hydra.*, tracking.* and, to train longer, {' and '.join(KEYS)}"
        for override in parsed
        if override.key_or_group.split(".")[0] not in _RESUME_ALLOWS
        and override.key_or_group not in KEYS
        and not is_hydra(override.key_or_group)
    )
    return problems
