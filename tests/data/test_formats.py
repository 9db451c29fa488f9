"""Formats: each is asked for by its name, `auto` finds those that are there, and one more is one more file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_foundry.config.choices import FORMATS
from lora_foundry.data.folder import read_folder
from lora_foundry.data.formats import ImageFormat, TableFormat, every_format, tables_by_name
from lora_foundry.data.reading import Reading
from lora_foundry.data.records import Findings, Row
from tests.added import Added

Draw = Callable[..., Path]
TSV = """
from lora_foundry.data.formats import TableFormat
from lora_foundry.data.records import Cell

class _Tsv(TableFormat):
    names = ("metadata.tsv",)

    def cells(self, table, label, findings):
        for number, line in enumerate(table.read_text().splitlines(), start=1):
            name, tab, caption = line.partition("\\t")
            if not tab:
                findings.bad_rows.append(f"{label} line {number}: got {line!r}, allowed is a name, a tab and a caption")
                continue
            yield Cell(f"{label} line {number}", name, caption)

CHOICE = _Tsv()
"""
JSON = """
import json
from lora_foundry.data.formats import ImageFormat, cell_of

class _Json(ImageFormat):
    suffixes = (".json",)

    def claims(self, found):
        return any(path.suffix == ".json" for path in found.files)

    def cells(self, found, images, reading, findings):
        for image in images:
            file = image.with_suffix(".json")
            if file.is_file():
                yield cell_of(found, image, json.loads(file.read_text())["caption"])
            else:
                findings.bad_rows.append(f"{found.shown(image)}: has no {file.name}; write one")

CHOICE = _Json()
"""


def read(folder: Path, captions: str = "auto") -> tuple[dict[str, str], Findings]:
    findings = Findings()
    rows: list[Row] = read_folder(folder, "data.path", findings, Reading(captions=captions))
    return {row.name: row.caption for row in rows}, findings


@pytest.fixture
def images(tmp_path: Path, draw: Draw) -> Path:
    for name in ("a.png", "b.png"):
        draw(tmp_path / "set" / name)
    return tmp_path / "set"


def test_every_format_is_of_one_of_two_kinds_and_auto_chooses_among_them() -> None:
    kinds = {name: type(one).__mro__ for name, one in zip(FORMATS.names(), every_format(), strict=True)}
    assert [name for name, mro in kinds.items() if TableFormat in mro] == ["csv", "jsonl"]
    assert [name for name, mro in kinds.items() if ImageFormat in mro] == ["files", "folder", "name", "prefix"]
    assert [*tables_by_name()] == ["metadata.csv", "metadata.jsonl"]
    assert len(kinds) == 7


@pytest.mark.parametrize("asked", ["csv", "jsonl"])
def test_a_table_that_is_asked_for_by_its_format_goes_before_another_one(images: Path, asked: str) -> None:
    (images / "metadata.csv").write_text("file_name,text\na.png,of csv\nb.png,of csv\n")
    (images / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "of jsonl"}\n')
    (images / "b.txt").write_text("of a file")
    assert read(images)[1].faults == [
        f"{images} holds metadata.csv and metadata.jsonl, allowed is one of them; remove the other"
    ]
    rows, findings = read(images, asked)
    assert rows == ({"a.png": "of csv", "b.png": "of csv"} if asked == "csv" else {"a.png": "of jsonl"})
    other = {"csv": "metadata.jsonl", "jsonl": "metadata.csv"}[asked]
    assert f"data.captions={asked} passes over {other}" in findings.notes[0].text
    assert not findings.faults + findings.bad_rows


def test_files_are_read_whatever_tables_there_are(images: Path) -> None:
    for name in ("metadata.csv", "metadata.jsonl"):
        (images / name).write_text("not read")
    for name in "ab":
        (images / f"{name}.txt").write_text(name)
    rows, findings = read(images, "files")
    assert rows == {"a.png": "a", "b.png": "b"}
    assert not findings.faults


def test_a_table_that_is_asked_for_and_not_there_is_said(images: Path) -> None:
    (images / "a.txt").write_text("a")
    rows, findings = read(images, "csv")
    assert not rows
    assert findings.faults == [
        f"{images}: data.captions=csv reads metadata.csv, which is not there; add it, or leave the choice to "
        "data.captions=auto"
    ]


def test_a_table_of_another_name_is_taken_by_its_own_format_alone(images: Path) -> None:
    (images / "list.csv").write_text("file_name,text\na.png,a\nb.png,b\n")
    rows, findings = read(images, "jsonl")
    assert not rows
    assert "data.captions=jsonl reads metadata.jsonl, which is not there" in findings.faults[0]
    assert read(images, "csv")[0] == {"a.png": "a", "b.png": "b"}


def test_images_that_the_tables_asked_for_do_not_list_are_told(images: Path, draw: Draw) -> None:
    draw(images / "sub" / "c.png")
    (images / "sub" / "metadata.csv").write_text("file_name,text\nc.png,c\n")
    rows, findings = read(images, "csv")
    assert rows == {"sub/c.png": "c"}
    assert [note.text for note in findings.notes] == [f"{images}: no table that is read lists a.png, b.png; not used"]


def test_a_format_that_is_gone_is_a_fault_of_the_folder_and_no_traceback(images: Path) -> None:
    rows, findings = read(images, "parquet")
    assert not rows
    assert findings.faults == [f"data.captions: got 'parquet', allowed is one of {', '.join(FORMATS.names())}"]


def test_one_more_table_is_one_more_file(images: Path, added: Added) -> None:
    (images / "metadata.tsv").write_text("a.png\tred\nb.png blue\n")
    assert "none of its 2 images has a caption" in read(images)[1].faults[0]
    added(FORMATS, "tsv", TSV)
    for captions in ("auto", "tsv"):
        rows, findings = read(images, captions)
        assert rows == {"a.png": "red"}
        assert findings.bad_rows == [
            f"{images / 'metadata.tsv'} line 2: got 'b.png blue', allowed is a name, a tab and a caption"
        ]
    (images / "metadata.csv").write_text("file_name,text\na.png,red\n")
    assert "holds metadata.csv and metadata.tsv, allowed is one of them" in read(images)[1].faults[0]


def test_a_table_of_another_name_and_a_new_ending_is_found_where_it_is_alone(images: Path, added: Added) -> None:
    (images / "list.tsv").write_text("a.png\tred\nb.png\tblue\n")
    added(FORMATS, "tsv", TSV)
    rows, findings = read(images)
    assert rows == {"a.png": "red", "b.png": "blue"}
    assert [note.text for note in findings.notes] == [
        f"{images}: captions are read from list.tsv, the only table there"
    ]


def test_one_more_kind_of_file_beside_images_is_one_more_file(images: Path, added: Added) -> None:
    (images / "a.json").write_text('{"caption": "red"}')
    assert "1 files beside images are not read as captions (a.json)" in read(images)[1].notes[0].text
    added(FORMATS, "json_beside", JSON)
    for captions in ("auto", "json_beside"):
        rows, findings = read(images, captions)
        assert rows == {"a.png": "red"}
        assert findings.bad_rows == [f"{images / 'b.png'}: has no b.json; write one"]
        assert not findings.notes
