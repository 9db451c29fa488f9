"""Where relative paths of a configuration lead."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = None if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1]
"""Root of the tree that this code runs from; None where it was installed as a wheel."""
SHIPPED = PACKAGE if CHECKOUT is None else CHECKOUT
"""Where ``conf/``, ``sweeps/`` and ``assets/`` lie: a wheel brings them in the package, a tree has them at its root."""
OWN_CONFIGS = "LORA_FOUNDRY_CONFIG_DIR"
"""Environment variable with a user's own folder of configs (``experiment/my_style.yaml`` in it, and other groups)."""
_SQLITE = "sqlite:///"


def expand_home(text: str) -> str:
    """A path, or a database by its path, with ``~`` and ``~name`` at its beginning as the home folder that it is."""
    if text.startswith(f"{_SQLITE}~"):
        return _SQLITE + os.path.expanduser(text.removeprefix(_SQLITE))  # noqa: PTH111  # Path() would tidy the rest
    return os.path.expanduser(text)  # noqa: PTH111


def home_path(text: str) -> Path:
    """A path as a person gives it; ``~`` of somebody who has no home here stays, and is then missing by that name."""
    return Path(expand_home(text))


def own_configs() -> list[Path]:
    """The folder of configs that :data:`OWN_CONFIGS` names; it need not exist. Empty where it names none."""
    given = os.environ.get(OWN_CONFIGS, "").strip()
    return [home_path(given).absolute()] if given else []


def locate(path: str, start: Path | None = None) -> Path:
    """The path as given from the working folder, or, where that does not exist, from what the project brings.

    So ``assets/tiny-sd`` works from any folder, and a user's own folder of the same name comes first.
    The result need not exist: the caller says what is missing.

    Args:
        path: As a configuration has it.
        start: Another folder than the working folder.
    """
    given = home_path(path)
    here = given if start is None else start / given
    if given.is_absolute() or here.exists():
        return here
    shipped = SHIPPED / given
    return shipped if shipped.exists() else here
