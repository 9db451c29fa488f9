"""Folders as people keep them: what lies there is used, or warned of with a count and an example."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lora_foundry.config.schema import DataConfig
from lora_foundry.data import decode, heic, listing
from lora_foundry.data.checks import CheckedData, check_data
from lora_foundry.data.decode import read_image
from lora_foundry.data.listing import Listed, list_data, trained_on

MakeConfig = Callable[..., DataConfig]
Draw = Callable[..., Path]


@pytest.fixture
def photos(config: MakeConfig, draw: Draw, tmp_path: Path) -> Callable[..., DataConfig]:
    """A folder with the named images and files of text, and the configuration that trains on all of it."""

    def make(images: list[str], texts: dict[str, str] | None = None, **changes: Any) -> DataConfig:
        for name in images:
            kind = {".jfif": "JPEG", ".caption": "PNG"}.get(Path(name).suffix.lower())
            draw(tmp_path / "photos" / name, **({"format": kind} if kind else {}))
        for name, text in (texts or {}).items():
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).write_text(text)
        return config(**{"path": str(tmp_path / "photos"), "val_path": None, "val_fraction": 0.0, **changes})

    return make


Photos = Callable[..., DataConfig]


def check(data: DataConfig) -> CheckedData:
    return check_data(data, count_tokens=None, max_tokens=None)


def captions(listed: Listed) -> dict[str, str]:
    assert listed.refused == (), listed.refused
    return {row.name: row.caption for row in listed.train}


def notes(listed: Listed) -> list[str]:
    return [one.text for one in listed.warnings]


def the_note(listed: Listed) -> str:
    (line,) = notes(listed)
    return line


# ------------------------------------------------------------------------------------------------ kohya's folders


def test_kohyas_repeats_count_and_its_caption_files_are_read(photos: Photos) -> None:
    data = photos(
        ["img/10_anna woman/0.png", "img/10_anna woman/1.png", "img/2_bob man/0.png"],
        {f"img/{name}": name[-5] for name in ("10_anna woman/0.txt", "10_anna woman/1.caption", "2_bob man/0.txt")},
    )
    listed = list_data(data)
    assert {row.name: row.repeats for row in listed.train} == {
        "img/10_anna woman/0.png": 10,
        "img/10_anna woman/1.png": 10,
        "img/2_bob man/0.png": 2,
    }
    assert "10_anna woman: 2 x 10, 2_bob man: 1 x 2" in the_note(listed)
    assert listed.warnings[0].topic == "repeats"
    assert trained_on(data) == 22
    assert sorted(record.repeats for record in check(data).train) == [2, 10, 10]


def test_kohyas_folder_is_the_caption_of_images_without_one(photos: Photos) -> None:
    listed = list_data(photos(["img/10_anna_woman/p0.png", "img/10_anna_woman/p1.png"]))
    assert set(captions(listed).values()) == {"anna woman"}
    assert any("2 images have no caption file and take 'anna woman'" in line for line in notes(listed))


def test_the_data_folder_itself_may_be_one_of_kohyas(config: MakeConfig, draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "10_anna woman" / "a.png")
    listed = list_data(config(path=str(tmp_path / "10_anna woman"), val_path=None))
    assert [(row.caption, row.repeats) for row in listed.train] == [("anna woman", 10)]


def test_repeats_can_be_turned_off_and_dates_are_none(photos: Photos) -> None:
    texts = {"2023_trip/a.txt": "a", "02_city/b.txt": "b", "10_anna/c.txt": "c"}
    data = photos([name.replace(".txt", ".png") for name in texts], texts)
    assert {row.name: row.repeats for row in list_data(data).train} == {
        "02_city/b.png": 1, "10_anna/c.png": 10, "2023_trip/a.png": 1,
    }  # fmt: skip
    assert any("not in 02_city, 2023_trip" in line for line in notes(list_data(data)))
    off = list_data(photos([], repeats="none"))
    assert {row.repeats for row in off.train} == {1}
    assert notes(off) == []


def test_repeats_are_part_of_the_datas_hash_and_one_repeat_is_none(photos: Photos) -> None:
    once = check(photos(["1_anna/a.png"], {"1_anna/a.txt": "x"})).data_hash
    assert once == check(photos([], repeats="none")).data_hash
    data = photos(["10_anna/a.png"], {"10_anna/a.txt": "x"}, path=photos([]).path + "/10_anna")
    assert check(data).data_hash != once


# ------------------------------------------------------------------------------------------------- caption files


def test_captions_of_every_spelling_are_read(photos: Photos) -> None:
    texts = {"a.caption": "a", "im2.TXT": "b", "w.png.txt": "c", "d.Caption": "d", "e.JPEG.TXT": "e"}
    data = photos(["a.png", "im2.JPEG", "w.png", "d.WebP", "e.JPEG"], texts)
    assert captions(list_data(data)) == {"a.png": "a", "im2.JPEG": "b", "w.png": "c", "d.WebP": "d", "e.JPEG": "e"}
    assert notes(list_data(data)) == []


def test_mixed_kinds_and_cases_of_images_are_read(photos: Photos) -> None:
    names = ["0.PNG", "1.WebP", "2.JPEG", "3.Jpg", "4.webp", "5.BMP", "6.TIFF", "7.jfif"]
    data = photos(names, {f"{name[0]}.txt": name for name in names})
    assert captions(list_data(data)) == {name: name for name in names}
    assert len(check(data).train) == len(names)


def test_images_with_one_caption_file_are_named(photos: Photos) -> None:
    data = photos(["a.png", "a.jpg", "b.png"], {"a.txt": "a cat", "b.txt": "b"})
    listed = list_data(data)
    assert captions(listed)["a.png"] == captions(listed)["a.jpg"] == "a cat"
    assert "2 images share a caption file with another image (a.jpg and a.png: a.txt)" in the_note(listed)
    own = list_data(photos([], {"a.jpg.txt": "another cat"}))
    assert captions(own) == {"a.png": "a cat", "a.jpg": "another cat", "b.png": "b"}


def test_two_caption_files_of_one_image_that_differ_are_told_and_equal_ones_are_not(photos: Photos) -> None:
    data = photos(["a.png", "b.png"], {"a.txt": "new", "a.caption": "old", "b.txt": "same", "b.caption": "same\n"})
    listed = list_data(data)
    assert captions(listed) == {"a.png": "new", "b.png": "same"}
    assert "1 caption files are passed over" in the_note(listed)
    assert "a.caption: 'old'" in the_note(listed)


def test_files_beside_images_that_may_be_captions_are_told(photos: Photos) -> None:
    data = photos(["a.png", "b.png"], {"a.txt": "a", "b.txt": "b", "a.json": "{}", "b.json": "{}", "other.json": "{}"})
    assert "2 files beside images are not read as captions (a.json, b.json)" in the_note(list_data(data))


def test_pictures_of_kinds_that_are_not_read_are_told(photos: Photos) -> None:
    data = photos(["a.png"], {"a.txt": "a", "b.CR2": "raw", "c.jxl": "", "d.mov": "", "e.svg": ""})
    assert "4 files of kinds that are not read (b.CR2, c.jxl, d.mov and 1 more)" in the_note(list_data(data))


# -------------------------------------------------------------------------------------------------------- tables


def table(*names: str, pair: str = "file_name,text") -> str:
    return f"{pair}\n" + "".join(f"{name},cap {name[0]}\n" for name in names)


def test_a_table_whose_name_has_capitals_is_read(photos: Photos) -> None:
    listed = list_data(photos(["0.png", "1.png"], {"Metadata.CSV": table("0.png", "1.png")}))
    assert captions(listed) == {"0.png": "cap 0", "1.png": "cap 1"}


def test_another_table_is_read_where_it_is_the_only_one_and_told(photos: Photos) -> None:
    listed = list_data(photos(["0.png", "1.png"], {"captions.csv": table("0.png", "1.png")}))
    assert captions(listed) == {"0.png": "cap 0", "1.png": "cap 1"}
    assert "captions are read from captions.csv" in the_note(listed)


def test_other_tables_beside_captions_are_told_and_not_read(photos: Photos) -> None:
    data = photos(["0.png"], {"0.txt": "own", "captions.csv": table("0.png"), "stats.csv": "loss,step\n1,2\n"})
    listed = list_data(data)
    assert captions(listed) == {"0.png": "own"}
    assert "captions.csv is not used" in the_note(listed)


def test_two_tables_of_other_names_are_ambiguous(photos: Photos) -> None:
    data = photos(["0.png"], {"captions.csv": table("0.png"), "prompts.csv": table("0.png")})
    assert any("holds 2 tables of captions (captions.csv, prompts.csv)" in line for line in list_data(data).refused)


def test_caption_files_beside_a_table_are_told_only_where_they_say_something_else(photos: Photos) -> None:
    texts = {"metadata.csv": table("0.png", "1.png"), "0.txt": "OTHER", "1.txt": "cap 1"}
    listed = list_data(photos(["0.png", "1.png"], texts))
    assert captions(listed) == {"0.png": "cap 0", "1.png": "cap 1"}
    assert "2 caption files beside its images are not used, 1 of them say something else (0.txt)" in the_note(listed)
    files = list_data(photos([], captions="files"))
    assert captions(files) == {"0.png": "OTHER", "1.png": "cap 1"}
    assert "data.captions=files passes over metadata.csv" in the_note(files)
    assert notes(list_data(photos([], {"0.txt": "cap 0"}))) == []


def test_the_table_of_a_subfolder_is_read_and_the_rest_has_its_files(photos: Photos) -> None:
    line = '{"file_name": "a.png", "text": "from the table"}\n'
    texts = {"sub/metadata.jsonl": line, "b.txt": "from the file"}
    listed = list_data(photos(["sub/a.png", "b.png"], texts))
    assert captions(listed) == {"sub/a.png": "from the table", "b.png": "from the file"}
    assert notes(listed) == []


def test_a_table_below_another_is_told(photos: Photos) -> None:
    texts = {"metadata.csv": "file_name,text\nsub/a.png,outer\n", "sub/metadata.csv": "file_name,text\na.png,inner\n"}
    listed = list_data(photos(["sub/a.png"], texts))
    assert captions(listed) == {"sub/a.png": "outer"}
    assert "1 tables below another one are not used" in the_note(listed)


# ---------------------------------------------------------------------------------------------- without captions


def test_no_captions_at_all_is_one_line_that_names_the_ways(photos: Photos) -> None:
    (line,) = list_data(photos([f"{n}.png" for n in range(5)])).refused
    assert "none of its 5 images has a caption" in line
    assert "data.captions=folder, name or prefix" in line


def test_some_images_without_captions_are_bad_rows(photos: Photos) -> None:
    data = photos([f"{n}.png" for n in range(5)], {f"{n}.txt": f"ok {n}" for n in range(3)})
    refused = list_data(data).refused
    assert [line.split(": ")[0].rsplit("/", 1)[1] for line in refused] == ["3.png", "4.png"]
    assert all("data.captions=" in line for line in refused)
    assert len(check(photos([], on_bad="skip")).train) == 3


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("folder", {"red_cup 01.png": "photos", "10_anna woman/x.png": "anna woman"}),
        ("name", {"red_cup 01.png": "red cup 01", "10_anna woman/x.png": "x"}),
        ("prefix", {"red_cup 01.png": "", "10_anna woman/x.png": ""}),
    ],
)
def test_captions_from_names_and_from_the_trigger_word(photos: Photos, how: str, expected: dict[str, str]) -> None:
    data = photos(list(expected), {"red_cup 01.txt": "not this"}, captions=how, caption_prefix="sks")
    listed = list_data(data)
    assert captions(listed) == expected
    assert any(f"1 files with captions (red_cup 01.txt) are not used: data.captions={how}" in x for x in notes(listed))
    seen = {record.caption for record in check(data).train}
    assert seen == {f"sks {caption}".strip() for caption in expected.values()}


# ----------------------------------------------------------------------------------------------------- few images


def test_one_image_is_a_data_set(photos: Photos) -> None:
    checked = check(photos(["a.png"], {"a.txt": "one"}, val_fraction=0.1))
    assert [r.caption for r in checked.train] == [r.caption for r in checked.val] == ["one"]


# ---------------------------------------------------------------------------------------------------------- links


@pytest.fixture
def cache_of_links(draw: Draw, tmp_path: Path) -> Path:
    """A data set as a hub's cache keeps it: images, captions and a folder are links to what lies beside it."""
    draw(tmp_path / "blobs" / "3f2a", format="PNG")
    draw(tmp_path / "blobs" / "more" / "c.png")
    (tmp_path / "blobs" / "more" / "c.txt").write_text("a third")
    (tmp_path / "blobs" / "77aa").write_text("a red cup")
    (tmp_path / "data").mkdir()
    for name, blob in (("a.png", "3f2a"), ("b.png", "3f2a"), ("a.txt", "77aa"), ("b.txt", "77aa"), ("more", "more")):
        (tmp_path / "data" / name).symlink_to(tmp_path / "blobs" / blob)
    return tmp_path / "data"


def test_links_are_followed_when_asked_and_refused_with_the_key_otherwise(
    config: MakeConfig, cache_of_links: Path
) -> None:
    refused = list_data(config(path=str(cache_of_links), val_path=None)).refused
    assert len(refused) == 3
    assert all("data.follow_links=true" in line for line in refused)
    data = config(path=str(cache_of_links), val_path=None, val_fraction=0.0, follow_links=True)
    listed = list_data(data)
    assert captions(listed) == {"a.png": "a red cup", "b.png": "a red cup", "more/c.png": "a third"}
    checked = check(data)
    assert len(checked.train) == 3
    assert any("equal bytes (a.png, b.png)" in one.text for one in checked.warnings), "links are called by their names"


def test_linked_images_of_a_table_and_a_linked_table(config: MakeConfig, cache_of_links: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs" / "table").write_text("file_name,text\na.png,x\n../outside.png,y\n")
    (tmp_path / "outside.png").touch()
    (cache_of_links / "metadata.csv").symlink_to(tmp_path / "blobs" / "table")
    assert "data.follow_links=true" in list_data(config(path=str(cache_of_links), val_path=None)).refused[0]
    (line,) = list_data(config(path=str(cache_of_links), val_path=None, follow_links=True)).refused
    assert "../outside.png" in line
    assert "allowed are files inside it" in line, "a name that climbs out is no link"


def test_a_loop_of_linked_folders_ends(photos: Photos, tmp_path: Path) -> None:
    data = photos(["sub/a.png"], {"sub/a.txt": "a"}, follow_links=True)
    (tmp_path / "photos" / "sub" / "loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos" / "sub")
    assert len(list_data(data).train) == 1


# ----------------------------------------------------------------------------------------------------------- HEIC


def photo_of_a_phone(**save: Any) -> bytes:
    """Blue on the left, red on the right, 40 x 20."""
    import pillow_heif  # the extra that this is about

    pillow_heif.register_heif_opener()
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    buffer = io.BytesIO()
    image.save(buffer, "HEIF", quality=100, **save)
    return buffer.getvalue()


def test_heic_photos_are_read_upright(photos: Photos, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    content = photo_of_a_phone(exif=turned.tobytes())
    upright = read_image(content, (255, 255, 255))
    assert upright.size == (20, 40)
    assert [max(range(3), key=upright.getpixel(at).__getitem__) for at in ((10, 5), (10, 35))] == [2, 0]
    data = photos(["b.png"], {"IMG_1.txt": "a phone's", "b.txt": "b"})
    (tmp_path / "photos" / "IMG_1.HEIC").write_bytes(content)
    assert {r.caption for r in check(data).train} == {"a phone's", "b"}


def test_heic_without_its_package_is_one_line_that_names_it(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"IMG_{n}" for n in range(5)]
    data = photos([], {f"{name}.txt": "heic" for name in names})
    for name in names:
        (tmp_path / "photos" / f"{name}.HEIC").write_bytes(photo_of_a_phone())
    assert list_data(data).refused == ()
    monkeypatch.setattr(listing, "can_read", lambda: False)
    (line,) = list_data(data).refused
    assert "5 of 5 images are HEIC (IMG_0.HEIC, IMG_1.HEIC, IMG_2.HEIC, ...)" in line
    assert "pip install pillow-heif" in line


def test_heic_in_a_file_of_another_name_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    content = photo_of_a_phone()
    monkeypatch.setattr(decode, "can_read", lambda: False)
    monkeypatch.setattr(decode, "_FORMATS", ("JPEG", "PNG"))
    with pytest.raises(decode.UnreadableImageError, match=r"is an HEIC image.*pillow-heif"):
        read_image(content, (0, 0, 0))
    assert not heic.is_heic(b"\0\0\0\x20ftypavif")


def test_a_damaged_heic_is_a_bad_row(photos: Photos, tmp_path: Path) -> None:
    data = photos(["a.png"], {"a.txt": "a", "IMG_1.txt": "x"}, on_bad="skip")
    (tmp_path / "photos" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(500))
    assert len(check(data).train) == 1
    assert "IMG_1.HEIC" in check(data).skipped[0]


# -------------------------------------------------------------------------------------------------------- Unicode


def test_half_of_an_emoji_in_a_caption_is_a_bad_row_with_its_line(photos: Photos) -> None:
    lines = (
        '{"file_name":"p0.png","text":"a blue card \\ud83d"}\n{"file_name":"p1.png","text":"a card \\ud83d\\ude00"}\n'
    )
    data = photos(["p0.png", "p1.png"], {"metadata.jsonl": lines})
    (line,) = list_data(data).refused
    assert "metadata.jsonl line 1: the caption of p0.png is no valid Unicode" in line
    checked = check(photos([], on_bad="skip"))
    assert [r.caption for r in checked.train] == ["a card \U0001f600"]
    assert "line 1" in checked.skipped[0]


def test_names_of_files_that_are_not_utf8_can_be_printed_and_are_no_captions(photos: Photos, tmp_path: Path) -> None:
    data = photos(["a.png"], {"a.txt": "a"}, captions="name")
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "photos" / name).write_bytes((tmp_path / "photos" / "a.png").read_bytes())
    (line,) = list_data(data).refused
    line.encode()
    assert "no valid Unicode" in line
    (tmp_path / "photos" / os.fsdecode(b"\xe9.txt")).write_text("lonely")
    for text in notes(list_data(photos([], on_bad="skip", captions="files"))):
        text.encode()


def test_a_folder_that_is_no_file_name_says_so(photos: Photos) -> None:
    lines = '{"file_name":"\\ud83d.png","text":"x"}\n{"file_name":"a.png","text":"y"}\n'
    (line,) = list_data(photos(["a.png"], {"metadata.jsonl": lines})).refused
    assert "is no usable path" in line
    line.encode()
