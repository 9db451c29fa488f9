"""Read a folder of captioned images: a caption table, or a ``.txt`` beside each image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from src.data.records import Findings, Row
from src.data.tables import Cell, TextError, read_csv, read_jsonl, read_text

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_SHOWN = 3  # names in a note; the rest is counted
_TABLES = {"metadata.csv": read_csv, "metadata.jsonl": read_jsonl}


def read_folder(folder: Path, key: str, findings: Findings) -> list[Row]:
    """The rows of ``folder`` that name an existing file inside it and have a caption.

    Args:
        folder: What the configuration points to; it may itself be a link.
        key: The configuration's key, for messages (``data.path``).
        findings: Takes every problem.
    """
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "missing"
        findings.faults.append(f"{key}: {folder} is {kind}, allowed is a folder of captioned images")
        return []
    root = _real(folder)
    tables = [name for name in _TABLES if (root / name).is_file()]
    if len(tables) > 1:
        findings.faults.append(
            f"{key}: {folder} holds {' and '.join(tables)}, allowed is one of them; remove the other"
        )
        return []
    if tables:
        return _read_table(root, tables[0], f"{folder}/{tables[0]}", findings)
    images, texts = _scan(root)
    if not images:
        findings.faults.append(
            f"{key}: {folder} holds no images, allowed is at least one, with metadata.csv (filename,prompt), "
            "metadata.jsonl or .csv (file_name,text), or a .txt beside each image"
        )
    _note_links(root, folder, findings)
    return _from_cells(_from_texts(images, texts, root, folder, findings), root, findings)[0]


def _read_table(root: Path, name: str, label: str, findings: Findings) -> list[Row]:
    table = root / name
    if not _real(table).is_relative_to(root):
        findings.faults.append(f"{label}: leads to {_real(table)}, outside the data folder; put a copy inside it")
        return []
    before = len(findings.faults), len(findings.bad_rows)
    cells = list(_TABLES[name](table, label, findings))
    if not cells and before == (len(findings.faults), len(findings.bad_rows)):
        findings.faults.append(f"{label}: lists no images, allowed is at least one row")
    rows, named = _from_cells(cells, root, findings)
    unlisted = [image for image in _scan(root)[0] if _real(image) not in named]
    if unlisted and named:
        findings.note("images", f"{label}: does not list {_few(unlisted)}; not used")
    return rows


def _scan(root: Path) -> tuple[list[Path], list[Path]]:
    """Images and texts below ``root``, sorted; hidden files and folders are left out."""
    images: list[Path] = []
    texts: list[Path] = []
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(place) / name for name in files if not name.startswith(".")]
        images.extend(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)
        texts.extend(path for path in paths if path.suffix.lower() == ".txt")
    return sorted(images), sorted(texts)


def _note_links(root: Path, folder: Path, findings: Findings) -> None:
    """Links to folders are not followed, which must not lose images silently."""
    for place, folders, _ in os.walk(root):
        for path in (Path(place) / name for name in sorted(folders)):
            if path.is_symlink() and not path.name.startswith("."):
                findings.bad_rows.append(
                    f"{folder / path.relative_to(root)}: is a link to a folder, which is not followed; copy the folder"
                )


def _from_texts(images: list[Path], texts: list[Path], root: Path, folder: Path, findings: Findings) -> Iterator[Cell]:
    known, left = set(texts), set(texts)
    for image in images:
        name, text = image.relative_to(root), image.with_suffix(".txt")
        label = str(folder / text.relative_to(root))
        if text not in known:
            findings.bad_rows.append(f"{folder / name}: has no caption; write one to {text.name} beside it")
            continue
        left.discard(text)
        if not _real(text).is_relative_to(root):
            findings.bad_rows.append(f"{label}: leads to {_real(text)}, outside the data folder; put a copy inside it")
            continue
        try:
            yield Cell(label, str(name), read_text(text, label, findings).strip())
        except TextError as error:
            findings.bad_rows.append(str(error))
    if left:
        findings.note("captions", f"{folder}: no image lies beside {_few(sorted(left))}")


def _real(path: Path) -> Path:
    """The absolute path behind all links; unlike Path.resolve it does not raise on a loop of links."""
    return Path(os.path.realpath(path))


def _few(paths: list[Path]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(path.name for path in paths[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _from_cells(cells: Iterable[Cell], root: Path, findings: Findings) -> tuple[list[Row], set[Path]]:
    """Rows whose image is a file inside ``root``, each once, and every path that was named."""
    rows: list[Row] = []
    first: dict[Path, str] = {}
    for cell in cells:
        image = _inside(cell, root, findings)
        if image is None:
            continue
        if image in first:
            findings.bad_rows.append(
                f"{cell.where}: names {cell.name} a second time (first in {first[image]}), allowed is once; remove one"
            )
            continue
        first[image] = cell.where
        if not cell.caption:
            findings.bad_rows.append(f"{cell.where}: {cell.name} has no caption; write one, or remove the row")
            continue
        rows.append(Row(where=cell.where, image=image, caption=cell.caption))
    return rows, set(first)


def _inside(cell: Cell, root: Path, findings: Findings) -> Path | None:
    """The absolute path of an existing file below ``root``, or None when a problem was noted."""
    if not cell.name:
        findings.bad_rows.append(f"{cell.where}: names no image; write a file name, or remove the row")
        return None
    try:
        image = _real(root / cell.name)
        found = image.is_file()
    except (OSError, ValueError) as error:  # a name too long, a zero byte
        findings.bad_rows.append(f"{cell.where}: {cell.name[:80]!r} is no usable path ({error})")
        return None
    if not image.is_relative_to(root):
        findings.bad_rows.append(
            f"{cell.where}: {cell.name} leads to {image}, outside the data folder; allowed are files inside it"
        )
        return None
    if not found:
        hint = "; write / between folders" if "\\" in cell.name else ""
        kind = "is not a regular file" if image.exists() else "is missing"
        findings.bad_rows.append(f"{cell.where}: {cell.name} {kind}; add it, or remove the row{hint}")
        return None
    return image
