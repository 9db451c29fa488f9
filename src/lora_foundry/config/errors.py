"""Why a sweep cannot start or go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

FORMAT = 1
"""Of ``sweep.json`` and ``journal.jsonl``; those that name none are of the first."""


class SweepError(ValueError):
    """A sweep that cannot start; ``problems`` holds a line for each reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("Nothing was started:\n" + "\n".join(f"  - {line}" for line in problems))


class NewerFormatError(SweepError):
    """A file that a later version of this program wrote."""


def check_format(path: Path, found: object) -> None:
    """Refuse a file of a later format.

    Raises:
        NewerFormatError: When ``found`` is above :data:`FORMAT`.
    """
    if isinstance(found, int) and found > FORMAT:
        msg = (
            f"{path}: got format {found}, allowed is up to {FORMAT}: a newer version of this program wrote it; "
            "go on with that one, or update this one"
        )
        raise NewerFormatError([msg])
