"""Which code this is: recorded beside results, never compared."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from lora_foundry.config.paths import CHECKOUT

_WAIT_S = 5.0
CHANGES = "+changes"
_SHORT = 10  # digits that people read


@cache
def commit() -> str | None:
    """The project's commit, with ``+changes`` when the tree differs from it; None outside a checkout."""
    found = _git("rev-parse", "HEAD")
    if found is None:
        return None
    return found + (CHANGES if _git("status", "--porcelain", "--untracked-files=no") else "")


@cache
def code_version() -> str:
    """The commit, or the installed package's version where there is none."""
    found = commit()
    if found is not None:
        return found
    try:
        return version("lora-foundry")
    except PackageNotFoundError:
        return "unknown"


def told_version() -> str:
    """What ``--version`` says: the release, and the commit where this is a checkout."""
    try:
        release = version("lora-foundry")
    except PackageNotFoundError:
        release = "of an unknown release"
    found = commit()
    return f"LoRA Foundry {release}" + ("" if found is None else f" ({_short(found)})")


def _short(found: str) -> str:
    return found[:_SHORT] + (CHANGES if found.endswith(CHANGES) else "")


def _git(*words: str) -> str | None:
    if CHECKOUT is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(CHECKOUT), *words],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            timeout=_WAIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
