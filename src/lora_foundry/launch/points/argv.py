"""The words of a command line, in any order: flags with their values, and overrides.

Hydra's argparse refuses ``a=1 -m b=2,3``, takes abbreviations, and passes over flags that contradict each other. Here
each flag is looked at before Hydra's parts are called one by one (:mod:`lora_foundry.launch.points.driving`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.elsewhere import why_not_here
from lora_foundry.config.parse import keys_called
from lora_foundry.config.paths import SHIPPED, home_path
from lora_foundry.launch.points.texts import as_texts

_LEAST_LIKENESS = 0.6
_SHOWS = ("--help", "--hydra-help", "--version", "--cfg", "--info", "--shell-completion")
_MODE = "hydra.mode"
_MODES = {"RUN": "--run", "MULTIRUN": "--multirun"}
_COMPLETION = ("install", "uninstall", "query")


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """A flag.

    Attributes:
        name: Its long spelling.
        short: Its short one.
        values: Allowed values; empty for any.
        value: Whether one follows: never, always, or where the next word is one of ``values``.
    """

    name: str
    short: str | None = None
    values: tuple[str, ...] = ()
    value: str = "never"


FLAGS = (
    Flag(name="--help", short="-h"),
    Flag(name="--hydra-help"),
    Flag(name="--version"),
    Flag(name="--cfg", short="-c", values=("job", "hydra", "all"), value="always"),
    Flag(name="--package", short="-p", value="always"),
    Flag(name="--resolve"),
    Flag(
        name="--info",
        short="-i",
        values=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
        value="maybe",
    ),
    Flag(name="--multirun", short="-m"),
    Flag(name="--run", short="-r"),
    Flag(name="--config-dir", short="-cd", value="always"),
    Flag(name="--config-name", short="-cn", value="always"),
    Flag(name="--config-path", short="-cp", value="always"),
    Flag(name="--shell-completion", short="-sc"),
)
_BY_NAME = {name: flag for flag in FLAGS for name in (flag.name, flag.short) if name}
_DROPPED = {
    "--experimental-rerun": f"reads pickles, which may run anything; {command_line('resume')} goes on with a sweep"
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandLine:
    """The words behind ``train``, sorted by what they are.

    Attributes:
        flags: Long spelling of each flag to its values, none for a flag that takes none.
        overrides: ``key=value`` words in the order given, without ``hydra.mode``.
        problems: A line for each flag that cannot work.
    """

    flags: Mapping[str, tuple[str, ...]]
    overrides: tuple[str, ...]
    problems: tuple[str, ...] = ()

    @property
    def sweep(self) -> bool:
        """Whether lists of values are meant as a sweep."""
        return "--multirun" in self.flags

    @property
    def info(self) -> bool:
        """Whether something is only to be shown (``--help``, ``--cfg``, ...), not trained."""
        return any(flag in self.flags for flag in _SHOWS)

    def value(self, flag: str) -> str | None:
        """What was given last with ``flag``."""
        values = self.flags.get(flag, ())
        return values[-1] if values else None

    def config_name(self) -> str:
        """Name of the primary config."""
        return self.value("--config-name") or "train"

    def config_path(self) -> str:
        """Folder of the primary config."""
        given = self.value("--config-path")
        return str(SHIPPED / "conf" if given is None else home_path(given).absolute())

    def config_dirs(self) -> list[Path]:
        """Folders of one's own configs, which come before the project's."""
        return [home_path(value) for value in self.flags.get("--config-dir", ())]


def arrange(words: list[str]) -> CommandLine:
    """Sort ``words`` (``sys.argv[1:]``) into flags and overrides."""
    flags: dict[str, tuple[str, ...]] = {}
    overrides: list[str] = []
    problems: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, _, value = word.partition("=")
        if key == _MODE and value.upper() in _MODES:
            flags.setdefault(_MODES[value.upper()], ())
        elif not word.startswith("-"):
            overrides.append(word)
        elif isinstance(found := _flag(word, rest), str):
            problems.append(found)
        else:
            name, given = found
            flags[name] = (*flags.get(name, ()), *given)
    if "--shell-completion" in flags:
        problems += _completion_problems(overrides)
    return CommandLine(
        flags=flags, overrides=tuple(as_texts(overrides)), problems=(*problems, *_contradictions(flags, overrides))
    )


def _flag(word: str, rest: list[str]) -> tuple[str, tuple[str, ...]] | str:
    """Its long spelling and its value, taken from ``rest`` where it stands there; or what is wrong."""
    name, equals, value = word.partition("=")
    flag = _BY_NAME.get(name)
    if flag is None:
        return _no_such(name, rest)
    if equals and flag.value == "never":
        return f"{word}: {name} takes no value"
    if not equals and (flag.value == "maybe" and rest and rest[0] in flag.values):
        value = rest.pop(0)
    elif not equals and flag.value == "always":
        if not rest or rest[0].startswith("-"):
            return f"{name}: got no value, allowed is {_allowed(flag)}"
        value = rest.pop(0)
    if flag.values and (value or equals) and value not in flag.values:
        return f"{name}: got {value!r}, allowed is {_allowed(flag)}"
    if flag.value == "always" and not value:
        return f"{name}: got no value, allowed is {_allowed(flag)}"
    return flag.name, (value,) if value else ()


def _allowed(flag: Flag) -> str:
    what = {"--config-name": "the name of a primary config", "--package": "a key, such as lora"}
    return f"one of {', '.join(flag.values)}" if flag.values else what.get(flag.name, "a folder")


def _no_such(name: str, rest: list[str]) -> str:
    if name in _DROPPED:
        if rest and "=" not in rest[0]:
            del rest[0]
        return f"{name}: {_DROPPED[name]}"
    keys, reason = keys_called(name), why_not_here(name)
    if keys or reason is not None:
        if rest and "=" not in rest[0] and not rest[0].startswith("-"):
            del rest[0]  # its value, which would be found wrong too
        here = f"values are set without dashes: {' or '.join(f'{key}=...' for key in keys)}" if keys else reason
        return f"{name}: no such flag; {here}"
    dashed = name if name.startswith("--") else f"-{name}"
    near = difflib.get_close_matches(dashed, [flag.name for flag in FLAGS], n=1, cutoff=_LEAST_LIKENESS)
    if near and _BY_NAME[near[0]].value != "never" and rest and "=" not in rest[0] and not rest[0].startswith("-"):
        del rest[0]  # its value, which would be found wrong too
    hint = f"did you mean {near[0]}?" if near else f"{command_line('train')} --help shows what there is"
    return f"{name}: no such flag; {hint}"


def _contradictions(flags: Mapping[str, tuple[str, ...]], overrides: list[str]) -> list[str]:
    problems = []
    if "--multirun" in flags and "--run" in flags:
        problems.append("--run, --multirun: one trains one adapter, the other one for each value; give one of them")
    shown = [flag for flag in _SHOWS if flag in flags]
    if len(shown) > 1:
        problems.append(f"{', '.join(shown)}: each shows something else; give one of them")
    if "--resolve" in flags and not {"--cfg", "--help"} & set(flags):
        problems.append("--resolve: goes with --cfg, whose values it fills in")
    if "--package" in flags and "--cfg" not in flags:
        problems.append("--package: goes with --cfg, of which it shows a part")
    named = [word for word in overrides if word.startswith("sweep=") and word != "sweep=null"]
    if "--run" in flags and named:
        problems.append(f"--run: {named[-1]} trains several adapters; leave one of them out")
    return problems


def _completion_problems(overrides: list[str]) -> list[str]:
    found = [word.partition("=") for word in overrides]
    if len(found) == 1 and found[0][0] in _COMPLETION and found[0][2] == "bash":
        return []
    got = " ".join(overrides) or "nothing"
    return [f"--shell-completion: got {got}, allowed is one of {', '.join(f'{word}=bash' for word in _COMPLETION)}"]
