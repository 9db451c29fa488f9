"""Wrong keys and group options of a command line, all at once, before Hydra composes anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, QuotedString
from hydra.errors import OverrideParseException

from src.config.parse import known_keys, nearest
from src.config.paths import PROJECT_ROOT

CONFIG_DIRS = (PROJECT_ROOT / "conf", PROJECT_ROOT / "sweeps")
_RESUME_ALLOWS = ("resume", "tracking")


def group_options(dirs: Iterable[Path] = CONFIG_DIRS) -> dict[str, list[str]]:
    """Group name to its options, from the YAML files below ``dirs`` (Hydra's own groups left out)."""
    groups: dict[str, set[str]] = {}
    for folder in dirs:
        for file in sorted(folder.glob("*/**/*.y*ml")):
            group = file.parent.relative_to(folder).as_posix()
            if group.split("/")[0] != "hydra":
                groups.setdefault(group, set()).add(file.stem)
    return {group: sorted(options) for group, options in groups.items()}


def problems_of(overrides: Sequence[str], groups: Mapping[str, list[str]], *, sweeping: bool) -> list[str]:
    """One line for each override that cannot work; empty when all can.

    Args:
        overrides: Words such as ``lora.rank=4,8``; ``hydra.*`` is left to Hydra.
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
    sweeping = sweeping or any(o.key_or_group == "sweep" and o.value() is not None for o in parsed)
    for override in parsed:
        if not override.is_hydra_override() and override.key_or_group != "hydra":
            problem = _problem(override, groups, sweeping=sweeping)
            problems.extend([problem] if problem else [])
    problems.extend(_resume_problems(parsed))
    return problems


def _unreadable(word: str, error: OverrideParseException) -> str:
    if "=" not in word and not word.startswith("~"):
        return f"{word!r}: got a word without '=', allowed is key=value (python -m src.train --help shows examples)"
    reason = str(error.message).splitlines()[0] if error.message else "it cannot be read"
    return f"{word!r}: {reason}; quote values with spaces or commas: 'key=\"a, b\"'"


def _problem(override: Override, groups: Mapping[str, list[str]], *, sweeping: bool) -> str | None:
    key = override.key_or_group
    if key in groups and _is_option(override):
        return _option_problem(override, groups[key], sweeping=sweeping)
    keys = known_keys()
    if not _is_known(key, keys):
        return f"{key}: no such key{nearest(key, [*keys, *groups])}"
    if override.type is OverrideType.DEL:
        return f"~{key}: every key is needed; give another value instead ({key}=null where null is allowed)"
    if override.type is OverrideType.ADD:
        return f"+{key}: the key exists already; write it without the +"
    if override.is_sweep_override() and not sweeping:
        return _many_values(override)
    return None


def _is_option(override: Override) -> bool:
    """Whether the value names an option of a group, not a mapping laid over it."""
    return not isinstance(override.value(), dict)


def _is_known(key: str, keys: list[str]) -> bool:
    head, _, tail = key.rpartition(".")
    return key in keys or (tail.isdigit() and head in keys)


def _option_problem(override: Override, options: list[str], *, sweeping: bool) -> str | None:
    key = override.key_or_group
    if override.type is OverrideType.DEL:
        return f"~{key}: every group is needed; choose another option: {', '.join(options)}"
    wrong = [name for name in _named(override) if name not in options]
    if wrong:
        got = ", ".join(repr(name) for name in wrong)
        return f"{key}: got {got}, allowed is one of {', '.join(options)}{nearest(wrong[0], options)}"
    if override.is_sweep_override() and not sweeping:
        return _many_values(override)
    return None


def _named(override: Override) -> list[str]:
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [item.text if isinstance(item, QuotedString) else str(item) for item in value.list]
    if override.is_sweep_override() or isinstance(value, list) or value is None:
        return []  # a glob chooses among what exists; null chooses nothing; Hydra says what a list may be
    return [str(value)]


def _many_values(override: Override) -> str:
    word = override.input_line or override.key_or_group
    value = word.partition("=")[2]
    return f"{word}: several values without -m; add -m to train one adapter for each, or write [{value}] for one list"


def _resume_problems(parsed: list[Override]) -> list[str]:
    resumes = [o for o in parsed if o.key_or_group == "resume" and o.value() is not None]
    if not resumes:
        return []
    problems = []
    if resumes[-1].is_sweep_override():
        problems.append(f"{resumes[-1].input_line}: one job is resumed at a time; give one folder")
    problems.extend(
        f"{override.input_line}: not together with resume=, which takes the job's stored configuration; "
        "allowed beside it are hydra.* and tracking.*"
        for override in parsed
        if override.key_or_group.split(".")[0] not in _RESUME_ALLOWS and not override.is_hydra_override()
    )
    return problems
