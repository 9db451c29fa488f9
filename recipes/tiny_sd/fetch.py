"""Fetch the drawings: two npm packages, unpacked once into the work folder."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

VERSION = "16.0.0"
PACKAGES = {"google": "emoji-datasource-google", "twitter": "emoji-datasource-twitter"}


class FetchError(RuntimeError):
    """The drawings cannot be had; the message says what to do."""


def fetch(work: Path) -> None:
    """Unpack both packages below `work`, downloading with npm what is not there yet.

    Args:
        work: The recipe's work folder.

    Raises:
        FetchError: npm is missing or failed.
    """
    for vendor, package in PACKAGES.items():
        if not picture_folder(work, vendor).is_dir():
            _unpack(_tarball(work, package), work / vendor, vendor)


def picture_folder(work: Path, vendor: str) -> Path:
    """Return the folder that holds one vendor's drawings, 64 x 64 RGBA."""
    return work / vendor / "package" / "img" / vendor / "64"


def read_entries(work: Path) -> list[dict[str, Any]]:
    """Return the records of `emoji.json` in their sort order."""
    text = (work / "google" / "package" / "emoji.json").read_text(encoding="utf-8")
    return sorted(json.loads(text), key=lambda entry: entry["sort_order"])


def _tarball(work: Path, package: str) -> Path:
    """Return the package's tarball, downloaded by `npm pack` when the work folder lacks it."""
    folder = work / "npm"
    tarball = folder / f"{package}-{VERSION}.tgz"
    if tarball.is_file():
        return tarball
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(
            f"npm was not found, and {tarball} is not there. Install Node.js, or run "
            f"`npm pack {package}@{VERSION}` elsewhere and copy the file to {folder}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", f"{package}@{VERSION}", "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0 or not tarball.is_file():
        raise FetchError(f"`npm pack {package}@{VERSION}` failed: {done.stderr.strip() or 'no file came'}")
    return tarball


def _unpack(tarball: Path, target: Path, vendor: str) -> None:
    """Unpack the drawings of 64 pixels and the texts, whole or not at all."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(tarball) as archive:
        wanted = [
            member
            for member in archive.getmembers()
            if member.name.startswith(f"package/img/{vendor}/64/") or member.name.count("/") == 1
        ]
        archive.extractall(partial, members=wanted, filter="data")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
