"""Read a folder of captioned images: caption tables, files beside the images, or names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_foundry.data.beside import caption_in, from_files, from_names
from lora_foundry.data.reading import Reading
from lora_foundry.data.records import Findings, Row
from lora_foundry.data.rows import Rows
from lora_foundry.data.scan import Scan, few, real, scan
from lora_foundry.data.tables import fits, read_table

_BY_NAME = ("folder", "name", "prefix")
AS_BEFORE = Reading()


def read_folder(folder: Path, key: str, findings: Findings, reading: Reading = AS_BEFORE) -> list[Row]:
    """The rows of ``folder`` that name an existing file inside it and have a caption.

    Args:
        folder: What the configuration points to; it may itself be a link.
        key: The configuration's key, for messages (``data.path``).
        findings: Takes every problem.
        reading: How it is read.
    """
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "missing"
        findings.faults.append(f"{key}: {folder} is {kind}, allowed is a folder of captioned images")
        return []
    found = scan(folder, follow_links=reading.follow_links)
    rows = Rows(found, reading, findings)
    _note_unread(found, findings)
    if reading.captions in _BY_NAME:
        _refuse_empty(found, key, findings)
        _refuse_links(found, [], findings)
        rows.add(from_names(found, reading, findings), found.root)
        return rows.rows
    if not _one_a_folder(found, findings):
        return []
    tables = _tables(found, reading, findings)
    _refuse_links(found, tables, findings)
    for table in tables:
        _read_table(found, table, rows, reading, findings)
    left = [image for image in found.images if not any(image.is_relative_to(table.parent) for table in tables)]
    if left or not tables:
        _refuse_empty(found, key, findings)
        rows.add(from_files(found, left, reading, findings), found.root)
    return rows.rows


def _refuse_empty(found: Scan, key: str, findings: Findings) -> None:
    if not found.images:
        findings.faults.append(
            f"{key}: {found.label} holds no images, allowed is at least one, with metadata.csv (filename,prompt), "
            "metadata.jsonl or .csv (file_name,text), or a .txt beside each image"
        )


def _note_unread(found: Scan, findings: Findings) -> None:
    """What lies there and is no image, caption or table that is read must not be lost without a word."""
    if found.other_pictures:
        findings.note(
            "images",
            f"{found.label}: {len(found.other_pictures)} files of kinds that are not read "
            f"({few(found.other_pictures)}); save them as PNG or JPEG",
        )
    if found.other_captions:
        findings.note(
            "captions",
            f"{found.label}: {len(found.other_captions)} files beside images are not read as captions "
            f"({few(found.other_captions)}); captions are .txt and .caption files",
        )


def _refuse_links(found: Scan, tables: Sequence[Path], findings: Findings) -> None:
    """Links to folders are not followed, which must not lose images; a table says itself what it wants of them."""
    for link in found.linked:
        if not any(link.is_relative_to(table.parent) for table in tables):
            findings.bad_rows.append(
                f"{found.shown(link)}: is a link to a folder, which is not followed; set data.follow_links=true, or "
                "copy the folder"
            )


def _one_a_folder(found: Scan, findings: Findings) -> bool:
    """Whether no folder has two tables, of which nobody can say which is meant."""
    places: dict[Path, list[str]] = {}
    for table in found.tables:
        places.setdefault(table.parent, []).append(table.name)
    twice = {place: names for place, names in places.items() if len(names) > 1}
    for place, names in twice.items():
        findings.faults.append(
            f"{found.shown(place)} holds {' and '.join(names)}, allowed is one of them; remove the other"
        )
    return not twice


def _tables(found: Scan, reading: Reading, findings: Findings) -> list[Path]:
    """The tables that are read: the outermost ones, or another file where nothing else has captions."""
    if reading.captions == "files":
        used = []
        if found.tables:
            findings.note("captions", f"{found.label}: data.captions=files passes over {few(found.tables)}")
    else:
        folders = {table.parent for table in found.tables}
        used = [table for table in found.tables if folders.isdisjoint(table.parent.parents)]
        if inner := [table for table in found.tables if table not in used]:
            names = ", ".join(found.shown(table) for table in inner[:2])
            findings.note("captions", f"{found.label}: {len(inner)} tables below another one are not used ({names})")
    alike = [path for path in found.lists if fits(path)]
    if not alike:
        return used
    if used or found.texts or reading.captions == "files":
        findings.note(
            "captions",
            f"{found.label}: {few(alike)} {'is' if len(alike) == 1 else 'are'} not used: "
            "captions are read from metadata.csv, metadata.jsonl and the files beside images",
        )
        return used
    if len(alike) > 1:
        findings.faults.append(
            f"{found.label} holds {len(alike)} tables of captions ({few(alike)}), allowed is one; call it metadata.csv "
            "or metadata.jsonl"
        )
        return used
    findings.note("captions", f"{found.label}: captions are read from {alike[0].name}, the only table there")
    return alike


def _read_table(found: Scan, table: Path, rows: Rows, reading: Reading, findings: Findings) -> None:
    label = found.shown(table)
    if not reading.follow_links and not real(table).is_relative_to(found.root):
        findings.faults.append(
            f"{label}: leads to {real(table)}, outside the data folder; put a copy inside it, or set "
            "data.follow_links=true"
        )
        return
    before = len(findings.faults), len(findings.bad_rows)
    cells = list(read_table(table, label, findings))
    if not cells and before == (len(findings.faults), len(findings.bad_rows)):
        findings.faults.append(f"{label}: lists no images, allowed is at least one row")
    added = rows.add(cells, table.parent)
    below = [image for image in found.images if image.is_relative_to(table.parent)]
    unlisted = [image for image in below if not rows.named(image)]
    if unlisted and len(unlisted) < len(below):
        findings.note("images", f"{label}: does not list {few(unlisted)}; not used")
    _note_passed_over(found, label, added, findings)


def _note_passed_over(found: Scan, label: str, added: Sequence[tuple[Path, Row]], findings: Findings) -> None:
    """Caption files beside listed images, which the table goes before, are named where they say something else."""
    beside = [(texts[0], row) for image, row in added if (texts := found.captions_of(image))]
    other = [text for text, row in beside if caption_in(text) != row.caption]
    if other:
        findings.note(
            "captions",
            f"{label}: {len(beside)} caption files beside its images are not used, {len(other)} of them say something "
            f"else ({few(other)}); data.captions=files takes them instead",
        )
