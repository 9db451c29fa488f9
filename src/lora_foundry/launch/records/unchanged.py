"""Whether a job that has begun would train with the same configuration and the same data now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lora_foundry.config.longer import digests_of, read_lengths
from lora_foundry.config.made_with import MadeWith, read_made_with
from lora_foundry.config.quoting import shell, split
from lora_foundry.config.schema import JobConfig
from lora_foundry.config.streams import drawn_otherwise

DataCheck = Callable[[Path, Path], list[str] | None]
"""What changed in the data since an inventory (a file) was taken, relative paths starting from a folder: a line for
each folder of data, none when nothing did, None when the inventory cannot be read."""

_SHOWN = 4
_EARLIER = ("hydra.launcher.skip_finished", "hydra.sweep.dir")


class Unchanged:
    """Compares jobs with what their ``made_with.json`` says; each data set is looked at once.

    Args:
        changed: Looks at the data; None compares configurations alone.
        start: Folder that the configurations' relative paths start from.
    """

    def __init__(self, changed: DataCheck | None, start: Path) -> None:
        self._changed = changed
        self._start = start
        self._seen: dict[Path, list[str] | None] = {}

    def is_recorded(self, job_dir: Path) -> bool:
        """Whether it is known what the job in ``job_dir`` trained with."""
        made = read_made_with(job_dir)
        return made is not None and self._data(job_dir, made) is not None

    def reason(self, job_dir: Path, config: JobConfig | None = None) -> str | None:
        """Why the job is not what it was, or could not end as it began; None if neither, or nothing is recorded.

        Args:
            job_dir: Its folder.
            config: Its stored configuration; None leaves that out.
        """
        made = read_made_with(job_dir)
        if made is None:
            return None
        if config is not None and made.asked not in digests_of(config, read_lengths(job_dir)):
            return "its stored configuration (.hydra/config.yaml) was changed since it began"
        if config is not None and made.ended is None:
            drawn = drawn_otherwise(made.streams or 1, config.lora.dropout)
            if drawn is not None:
                return drawn
        changed = self._data(job_dir, made)
        return f"the data changed since it began: {'; '.join(changed)}" if changed else None

    def _data(self, job_dir: Path, made: MadeWith) -> list[str] | None:
        file = made.inventory_file(job_dir)
        if file is None or self._changed is None:
            return None
        if file not in self._seen:
            self._seen[file] = self._changed(file, self._start)
        return self._seen[file]


def refusals(reasons: Mapping[str, str], command: str) -> tuple[str, ...]:
    """A line for each reason, with the names of the jobs that have it and what to do.

    Args:
        reasons: Adapter's name to reason.
        command: What trains them anew.
    """
    named: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        named.setdefault(reason, []).append(name)
    return tuple(
        f"{few(names)}: {reason}. Restore it to go on, or train anew: {anew(command)}"
        for reason, names in named.items()
    )


def few(names: Sequence[str]) -> str:
    """The first names; the rest is counted."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def anew(command: str) -> str:
    """The command without what makes it go on with an earlier sweep, or puts it into that sweep's folder."""
    try:
        words = split(command)
    except ValueError:  # somebody edited it
        return command
    return shell(word for word in words if word.partition("=")[0] not in _EARLIER)
