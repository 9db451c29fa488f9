"""Where relative paths of a configuration lead."""

from __future__ import annotations

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def locate(path: str, start: Path | None = None) -> Path:
    """The path as given from the working folder, or, where that does not exist, from the project's root.

    So ``assets/tiny-sd`` works from any folder, and a user's own folder of the same name comes first.
    The result need not exist: the caller says what is missing.

    Args:
        path: As a configuration has it.
        start: Another folder than the working folder.
    """
    given = Path(path).expanduser()
    here = given if start is None else start / given
    if given.is_absolute() or here.exists():
        return here
    shipped = PROJECT_ROOT / given
    return shipped if shipped.exists() else here
