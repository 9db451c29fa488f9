"""The command line put in the order that Hydra's parser needs.

Hydra's argparse refuses ``a=1 -m b=2,3``, and without ``-m`` it calls no launcher. Here flags come first,
and whatever trains is a multirun: a run without ``-m`` is a sweep of one job and goes the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from src.launch.texts import as_texts

_SWEEP = ("-m", "--multirun")
_RUN = ("-r", "--run")
_INFO = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion")
_WITH_VALUE = (
    *("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"),
    *("-cd", "--config-dir", "--experimental-rerun"),
)
_INFO_KINDS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandLine:
    """The words behind ``python -m src.train``, sorted by what they are.

    Attributes:
        flags: Hydra's flags with their values, without ``-m`` and ``-r``.
        overrides: ``key=value`` words in the order given.
        sweep: Whether ``-m`` stood anywhere.
        info: Whether something is only to be shown (``--help``, ``--cfg``, ...), not trained.
    """

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    sweep: bool
    info: bool

    def words(self) -> list[str]:
        """What Hydra is given."""
        mode = [] if self.info else ["--multirun"]
        return [*self.flags, *mode, *self.overrides]

    def config_dirs(self) -> list[Path]:
        """Folders named by ``--config-dir`` or ``--config-path``."""
        names = ("-cd", "--config-dir", "-cp", "--config-path")
        found = []
        for place, flag in enumerate(self.flags):
            name, separator, value = flag.partition("=")
            if name in names and separator:
                found.append(Path(value))
            elif flag in names and place + 1 < len(self.flags):
                found.append(Path(self.flags[place + 1]))
        return found


def arrange(words: list[str]) -> CommandLine:
    """Sort ``words`` (``sys.argv[1:]``) into flags and overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    sweep = info = False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0] if word.startswith("--") else word
        if word in _SWEEP:
            sweep = True
        elif word in _RUN:
            continue
        elif word.startswith("-"):
            info = info or name in _INFO
            flags.append(word)
            if rest and (word in _WITH_VALUE or (word in ("-i", "--info") and rest[0] in _INFO_KINDS)):
                flags.append(rest.pop(0))
        else:
            overrides.append(word)
    return CommandLine(flags=tuple(flags), overrides=tuple(as_texts(overrides)), sweep=sweep, info=info)
