"""Tab completion in bash: ``eval "$(lora-foundry train -sc install=bash)"``, or with ``python -m src.train``.

Hydra's own works for ``python script.py`` alone, composes the configuration at each tab, and takes ``=`` out of the
shell's word breaks for all other commands. Here words are completed from the schema and the folders of configs.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from lora_foundry.config.called import COMMANDS, PROGRAM
from lora_foundry.config.choices import ENGINES
from lora_foundry.config.hints import known_keys
from lora_foundry.config.keys import choices_of, is_group
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.points.argv import FLAGS, CommandLine, arrange
from lora_foundry.launch.points.check import folders_of, group_options
from lora_foundry.launch.points.hydra_keys import OURS, hydra_keys

_SCRIPT = Path(__file__).with_name("completion.bash")
_REMOVE = """\
complete -r python python3 lora-foundry 2>/dev/null
eval "$_lora_foundry_before"
unset -f _lora_foundry_complete
unset -v _lora_foundry_before"""


def complete(word: str) -> str:
    """What ``--shell-completion`` prints for ``install=bash``, ``uninstall=bash`` or ``query=bash``.

    A query reads the line in ``COMP_LINE`` and the cursor's place in ``COMP_POINT``, which bash sets.
    """
    command = word.partition("=")[0]
    if command == "install":
        return _SCRIPT.read_text(encoding="utf-8")
    if command == "uninstall":
        return _REMOVE
    text = os.environ.get("COMP_LINE", "")
    return "\n".join(completions(text[: int(os.environ.get("COMP_POINT", len(text)))]))


def completions(line: str) -> list[str]:
    """Words that may stand where ``line`` ends; each is the whole word, ``lora.rank=`` for ``lora.ra``."""
    try:
        words = shlex.split(line)
    except ValueError:  # within quotes
        return []
    current = "" if line[-1:].isspace() or not words else words.pop()
    words, wanted = _behind_the_command(words)
    if wanted is not None:
        return sorted(one for one in wanted if one.startswith(current))
    found = _flag_values(words) or (_flags() if current.startswith("-") else _overrides(arrange(words), current))
    return sorted(one for one in found if one.startswith(current))


def _behind_the_command(words: list[str]) -> tuple[list[str], Iterable[str] | None]:
    """The words behind ``train``; where another command stands or none yet, what may stand next instead."""
    if "src.train" in words:
        return words[words.index("src.train") + 1 :], None
    if words and Path(words[0]).name == PROGRAM:
        if words[1:2] == ["train"]:
            return words[2:], None
        return [], () if words[1:] else (*COMMANDS, "--help", "--version")
    return words, None


def _flag_values(words: Sequence[str]) -> list[str]:
    """What the flag before allows."""
    last = words[-1] if words else ""
    return next((list(flag.values) for flag in FLAGS if last in (flag.name, flag.short)), [])


def _flags() -> list[str]:
    return [flag.name for flag in FLAGS]


def _overrides(line: CommandLine, current: str) -> list[str]:
    groups = group_options(folders_of(line))
    key, equals, _ = current.partition("=")
    if equals:
        return [f"{key}={word}" for word in _values(key.lstrip("+"), groups)]
    keys = [*known_keys(), *hydra_keys(), *groups, *(f"hydra/{name}" for name in OURS)]
    return _next(keys, current, groups)


def _values(key: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    if key.startswith("hydra/"):
        return [*OURS.get(key.removeprefix("hydra/"), ()), *groups.get(key, ())]
    if key == ENGINES.key:
        return list(ENGINES.names())
    switches = [f"hydra.launcher.{field.name}" for field in fields(Settings) if isinstance(field.default, bool)]
    return ["true", "false"] if key in switches else list(groups.get(key, choices_of(key)))


def _next(keys: Sequence[str], current: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Keys that go on from ``current`` by one level: ``lora.`` for ``lo``, then ``lora.rank=``."""
    above = current.rpartition(".")[0]
    found = []
    for key in dict.fromkeys(keys):
        if key.rpartition(".")[0] != above:
            continue
        inner = is_group(key) or any(other.startswith(f"{key}.") for other in keys)
        found += [f"{key}."] if inner else []
        found += [f"{key}="] if not inner or key in groups else []
    return found
