"""Reading folders: the three layouts, text encodings, and every problem of a row or a table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.data.folder import read_folder
from lora_foundry.data.formats.csv import read_csv
from lora_foundry.data.records import Findings, Row
from tests.phrases import IS_A_FILE, NO_JSON

Draw = Callable[..., Path]


def read(folder: Path) -> tuple[list[Row], Findings]:
    findings = Findings()
    return read_folder(folder, "data.path", findings), findings


def captions(rows: list[Row]) -> dict[str, str]:
    return {row.image.name: row.caption for row in rows}


@pytest.fixture
def images(tmp_path: Path, draw: Draw) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        draw(tmp_path / "set" / name)
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", 'filename,prompt\na.png,red\nb.png,"big, blue"\nc.png, wide \n'),
        ("metadata.csv", 'text,file_name\r\nred,a.png\r\n"big, blue",b.png\r\n\r\nwide,./c.png\r\n'),
        (
            "metadata.jsonl",
            '{"file_name": "a.png", "text": "red"}\n{"file_name":"b.png","text":"big, blue"}\n\n'
            '{"file_name":"c.png","text":"wide"}',
        ),
    ],
)
def test_tables_of_each_layout_give_the_same_rows(images: Path, name: str, content: str) -> None:
    (images / name).write_text(content, newline="")
    rows, findings = read(images)
    assert captions(rows) == {"a.png": "red", "b.png": "big, blue", "c.png": "wide"}
    assert findings == Findings()


def test_a_txt_beside_each_image_is_its_caption_also_in_subfolders(images: Path, draw: Draw) -> None:
    draw(images / "more" / "D.JPG", format="JPEG")
    for name, text in (("a", " red\n"), ("b", "blue"), ("c", "wide"), ("more/D", "deep")):
        (images / f"{name}.txt").write_text(text)
    rows, findings = read(images)
    assert captions(rows) == {"a.png": "red", "b.png": "blue", "c.png": "wide", "D.JPG": "deep"}
    assert findings == Findings()


def test_an_image_without_txt_and_a_txt_without_image_are_named(images: Path) -> None:
    for name in ("a", "b", "lonely"):
        (images / f"{name}.txt").write_text("x")
    rows, findings = read(images)
    assert set(captions(rows)) == {"a.png", "b.png"}
    assert [line for line in findings.bad_rows if "c.png" in line and "c.txt" in line]
    assert [note for note in findings.notes if "lonely.txt" in note.text]


def test_hidden_files_are_no_images(images: Path) -> None:
    for name in ("a", "b", "c"):
        (images / f"{name}.txt").write_text("x")
    (images / "._a.png").write_bytes(b"resource fork")
    (images / ".thumbs").mkdir()
    (images / ".thumbs" / "t.png").write_bytes(b"no")
    assert read(images)[1] == Findings()


def test_a_utf8_mark_is_read_over_and_noted(images: Path) -> None:
    (images / "metadata.csv").write_bytes("\ufefffilename,prompt\na.png,żółw\n".encode())
    rows, findings = read(images)
    assert captions(rows) == {"a.png": "żółw"}
    assert "byte order mark" in findings.notes[0].text
    assert not findings.faults


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("\ufefffilename,prompt\na.png,x\n".encode("utf-16-le"), "UTF-16"),
        ("\ufefffilename,prompt\na.png,x\n".encode("utf-16-be"), "UTF-16"),
        ("\ufefffilename,prompt\na.png,x\n".encode("utf-32-le"), "UTF-32"),
        ("filename,prompt\na.png,x\n".encode("utf-16-le"), "zero bytes"),
        ("filename,prompt\na.png,caf\u00e9\n".encode("latin-1"), "0xe9 in line 2"),
        (b"image,caption\na.png,x\n", "image,caption"),
        (b"filename;prompt\na.png;x\n", "separate columns with commas"),
        (b"filename,prompt,file_name,text\na.png,x,a.png,y\n", "filename,prompt or file_name,text"),
        (b"filename,text\na.png,x\n", "filename,prompt or file_name,text"),
        (b"", "no header"),
        (b"filename,prompt\n", "lists no images"),
        (b'filename,prompt\na.png,"never closed\nb.png,x\n', "quotes"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_fault_that_says_why(images: Path, content: bytes, says: str) -> None:
    (images / "metadata.csv").write_bytes(content)
    rows, findings = read(images)
    assert rows == []
    assert len(findings.faults) == 1
    assert says in findings.faults[0]
    assert "metadata.csv" in findings.faults[0]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("gone.png,x", "gone.png is missing"),
        ("sub\\a.png,x", "write / between folders"),
        (",x", "names no image"),
        ("a.png,", "has no caption"),
        ("a.png,  ", "has no caption"),
        ("a.png,big, red", "got 3 cells"),
        ("a.png", "got 1 cells"),
        ("b.png,again", "second time"),
        ("./b.png,again", "second time"),
        ("../secret.png,x", "outside the data folder"),
        ("link.png,x", "outside the data folder"),
        ("out/secret.png,x", "outside the data folder"),
        ("pipe.png,x", "not a regular file"),
        (".,x", "not a regular file"),
        ("loop.png,x", "loop.png"),
        (f"{'n' * 300}.png,x", "no usable path"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_the_others_are_read(
    images: Path, draw: Draw, row: str, says: str
) -> None:
    draw(images.parent / "secret.png")
    draw(images.parent / "elsewhere" / "secret.png")
    (images / "link.png").symlink_to(images.parent / "secret.png")
    (images / "out").symlink_to(images.parent / "elsewhere")
    (images / "loop.png").symlink_to(images / "loop.png")
    os.mkfifo(images / "pipe.png")
    (images / "metadata.csv").write_text(f"filename,prompt\nb.png,blue\n{row}\nc.png,wide\n")
    rows, findings = read(images)
    assert captions(rows) == {"b.png": "blue", "c.png": "wide"}
    assert len(findings.bad_rows) == 1
    assert says in findings.bad_rows[0]
    assert "metadata.csv line 3" in findings.bad_rows[0]
    assert not findings.faults


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json}", NO_JSON),
        ("[1, 2]", "got a list"),
        ('{"file_name": "a.png"}', "got file_name"),
        ('{"file_name": "a.png", "text": null}', "two texts"),
        ('{"file_name": 3, "text": "x"}', "two texts"),
    ],
)
def test_a_bad_json_line_is_named(images: Path, line: str, says: str) -> None:
    (images / "metadata.jsonl").write_text(f'{{"file_name": "b.png", "text": "blue"}}\n{line}\n')
    rows, findings = read(images)
    assert captions(rows) == {"b.png": "blue"}
    assert says in findings.bad_rows[0]
    assert "line 2" in findings.bad_rows[0]


def test_links_out_of_the_folder_are_refused_beside_texts_too(images: Path, draw: Draw) -> None:
    outside = images.parent / "outside"
    draw(outside / "x.png")
    (outside / "caption.txt").write_text("secret")
    (images / "x.png").symlink_to(outside / "x.png")
    (images / "folder").symlink_to(outside)
    for name in ("a", "b", "x"):
        (images / f"{name}.txt").write_text(name)
    (images / "c.txt").symlink_to(outside / "caption.txt")
    rows, findings = read(images)
    assert captions(rows) == {"a.png": "a", "b.png": "b"}
    assert sorted(line.split(":")[0].rsplit("/", 1)[1] for line in findings.bad_rows) == ["c.txt", "folder", "x.txt"]


def test_a_table_linked_from_outside_is_refused(images: Path) -> None:
    (images.parent / "other.csv").write_text("filename,prompt\na.png,x\n")
    (images / "metadata.csv").symlink_to(images.parent / "other.csv")
    rows, findings = read(images)
    assert rows == []
    assert "outside the data folder" in findings.faults[0]


def test_a_linked_data_folder_is_fine(images: Path, tmp_path: Path) -> None:
    (images / "metadata.csv").write_text("filename,prompt\na.png,x\n")
    (tmp_path / "link").symlink_to(images)
    rows, findings = read(tmp_path / "link")
    assert captions(rows) == {"a.png": "x"}
    assert not findings.bad_rows


def test_a_missing_folder_a_file_and_an_empty_folder_are_faults(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert "is missing" in read(tmp_path / "gone")[1].faults[0]
    assert IS_A_FILE in read(tmp_path / "file")[1].faults[0]
    assert "holds no images" in read(tmp_path / "empty")[1].faults[0]


def test_two_tables_are_ambiguous(images: Path) -> None:
    (images / "metadata.csv").write_text("filename,prompt\na.png,x\n")
    (images / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "y"}\n')
    assert "remove the other" in read(images)[1].faults[0]


def test_images_that_a_table_leaves_out_and_further_columns_are_noted(images: Path) -> None:
    (images / "metadata.csv").write_text("filename,prompt,author\na.png,x,me\n")
    _, findings = read(images)
    assert any("author" in note.text for note in findings.notes)
    assert any("b.png" in note.text and "c.png" in note.text for note in findings.notes)


@pytest.mark.slow
@given(
    rows=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40), max_size=5
    )
)
def test_whatever_a_csv_writer_quotes_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("filename", "prompt"), *((f"{i}.png", text) for i, text in enumerate(rows))])
    path = tmp_path_factory.getbasetemp() / "quoted.csv"
    path.write_bytes(buffer.getvalue().encode())
    findings = Findings()
    cells = list(read_csv(path, "t", findings))
    assert [cell.caption for cell in cells] == [text.strip() for text in rows]
    assert findings == Findings()
