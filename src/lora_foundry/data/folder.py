"""Read a folder of captioned images, in the format that is asked for or in those that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lora_foundry.data.formats import TableFormat, Uses, format_choice, tables_by_name
from lora_foundry.data.reading import Reading
from lora_foundry.data.records import Findings, Row
from lora_foundry.data.rows import Rows
from lora_foundry.data.scan import Scan, few, real, scan
from lora_foundry.data.texts import caption_in

AS_BEFORE = Reading()
_Table = tuple[Path, TableFormat]


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
    try:
        choice = format_choice(reading.captions)
    except LookupError as error:
        findings.faults.append(str(error))
        return []
    found = scan(folder, follow_links=reading.follow_links, tables=tables_by_name())
    uses = choice.uses(found)
    rows = Rows(found, reading, findings, wordless=choice.wordless)
    _note_unread(found, uses, findings)
    tables = _tables(found, uses, reading, findings)
    if tables is None:
        return []
    _refuse_links(found, [table for table, _ in tables], findings)
    for table in tables:
        _read_table(found, table, rows, reading, findings)
    left = [image for image in found.images if not any(image.is_relative_to(table.parent) for table, _ in tables)]
    if left or not tables:
        _refuse_empty(found, key, findings)
        if uses.images is not None:
            rows.add(uses.images.cells(found, left, reading, findings), found.root)
        elif found.images:
            _note_left(found, left, tables, reading, findings)
    return rows.rows


def _refuse_empty(found: Scan, key: str, findings: Findings) -> None:
    if not found.images:
        findings.faults.append(
            f"{key}: {found.label} holds no images, allowed is at least one, with metadata.csv (filename,prompt), "
            "metadata.jsonl or .csv (file_name,text), or a .txt beside each image"
        )


def _note_left(
    found: Scan, left: Sequence[Path], tables: Sequence[_Table], reading: Reading, findings: Findings
) -> None:
    """Where tables alone are read, images below none of them are in none."""
    if tables:
        findings.note("images", f"{found.label}: no table that is read lists {few(left)}; not used")
        return
    names = " or ".join(name for name, one in tables_by_name().items() if one is format_choice(reading.captions))
    findings.faults.append(
        f"{found.label}: data.captions={reading.captions} reads {names}, which is not there; add it, or leave the "
        "choice to data.captions=auto"
    )


def _note_unread(found: Scan, uses: Uses, findings: Findings) -> None:
    """What lies there and is no image, caption or table that is read must not be lost without a word."""
    if found.other_pictures:
        findings.note(
            "images",
            f"{found.label}: {len(found.other_pictures)} files of kinds that are not read "
            f"({few(found.other_pictures)}); save them as PNG or JPEG",
        )
    suffixes = uses.images.suffixes if uses.images is not None else ()
    other = [path for path in found.other_captions if path.suffix.lower() not in suffixes]
    if other:
        findings.note(
            "captions",
            f"{found.label}: {len(other)} files beside images are not read as captions "
            f"({few(other)}); captions are .txt and .caption files",
        )


def _refuse_links(found: Scan, tables: Sequence[Path], findings: Findings) -> None:
    """Links to folders are not followed, which must not lose images; a table says itself what it wants of them."""
    for link in found.linked:
        if not any(link.is_relative_to(table.parent) for table in tables):
            findings.bad_rows.append(
                f"{found.shown(link)}: is a link to a folder, which is not followed; set data.follow_links=true, or "
                "copy the folder"
            )


def _tables(found: Scan, uses: Uses, reading: Reading, findings: Findings) -> list[_Table] | None:
    """The tables that are read, the outermost ones; None where nobody can say which of two is meant."""
    if uses.images is not None and not uses.images.looks:
        return []
    readers = tables_by_name()
    mine = {table: one for table in found.tables if (one := readers[table.name.lower()]) in uses.tables}
    if passed := [table for table in found.tables if table not in mine]:
        findings.note("captions", f"{found.label}: data.captions={reading.captions} passes over {few(passed)}")
    if not _one_a_folder(found, mine, findings):
        return None
    folders = {table.parent for table in mine}
    used = [(table, one) for table, one in mine.items() if folders.isdisjoint(table.parent.parents)]
    if inner := [table for table in mine if not folders.isdisjoint(table.parent.parents)]:
        names = ", ".join(found.shown(table) for table in inner[:2])
        findings.note("captions", f"{found.label}: {len(inner)} tables below another one are not used ({names})")
    return [*used, *_stray(found, uses, findings, alone=not used)]


def _one_a_folder(found: Scan, tables: Iterable[Path], findings: Findings) -> bool:
    """Whether no folder has two tables."""
    places: dict[Path, list[str]] = {}
    for table in tables:
        places.setdefault(table.parent, []).append(table.name)
    twice = {place: names for place, names in places.items() if len(names) > 1}
    for place, names in twice.items():
        findings.faults.append(
            f"{found.shown(place)} holds {' and '.join(names)}, allowed is one of them; remove the other"
        )
    return not twice


def _stray(found: Scan, uses: Uses, findings: Findings, *, alone: bool) -> list[_Table]:
    """A table of another name, where nothing else has captions; ``alone`` says that no table has its proper name."""
    alike = {path: one for path in found.lists if (one := _reader_of(path)) is not None}
    mine = [(path, one) for path, one in alike.items() if one in uses.tables]
    if not alike:
        return []
    if not (alone and mine) or (uses.images is not None and found.texts):
        names = ", ".join(tables_by_name())
        findings.note(
            "captions",
            f"{found.label}: {few([*alike])} {'is' if len(alike) == 1 else 'are'} not used: "
            f"captions are read from {names} and the files beside images",
        )
        return []
    if len(mine) > 1:
        findings.faults.append(
            f"{found.label} holds {len(mine)} tables of captions ({few([path for path, _ in mine])}), allowed is one; "
            f"call it {' or '.join(tables_by_name())}"
        )
        return []
    findings.note("captions", f"{found.label}: captions are read from {mine[0][0].name}, the only table there")
    return mine


def _reader_of(path: Path) -> TableFormat | None:
    """What can read the first row of a file that is called otherwise than a table."""
    endings = {Path(name).suffix: one for name, one in tables_by_name().items()}
    reader = endings[path.suffix.lower()]
    first = next(iter(reader.cells(path, str(path), ignored := Findings())), None)
    return reader if first is not None or not (ignored.faults or ignored.bad_rows) else None


def _read_table(found: Scan, described: _Table, rows: Rows, reading: Reading, findings: Findings) -> None:
    table, reader = described
    label = found.shown(table)
    if not reading.follow_links and not real(table).is_relative_to(found.root):
        findings.faults.append(
            f"{label}: leads to {real(table)}, outside the data folder; put a copy inside it, or set "
            "data.follow_links=true"
        )
        return
    before = len(findings.faults), len(findings.bad_rows)
    cells = list(reader.cells(table, label, findings))
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
