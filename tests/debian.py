"""Programs that a test needs and a machine may not have."""

from __future__ import annotations

import subprocess


def install(package: str) -> None:
    """Debian's package of that name."""
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", package],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
