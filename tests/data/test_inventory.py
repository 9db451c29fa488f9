"""What changed in a data set since it was trained on, told file by file, reading only what may have changed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lora_foundry.config.compose import compose_job
from lora_foundry.config.schema import DataConfig
from lora_foundry.data import inventory
from lora_foundry.data.inventory import changed_since, read_inventory, take_inventory, write_form
from lora_foundry.data.records import Record

LONG_AGO = time.time() - 7 * 86400


def _write(folder: Path, images: dict[str, bytes], captions: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in images.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (LONG_AGO, LONG_AGO))
    rows = [f"{name},{caption}" for name, caption in captions.items()]
    (folder / "metadata.csv").write_text("\n".join(["filename,prompt", *rows]) + "\n")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    names = [f"{letter}.png" for letter in "abcdef"]
    _write(tmp_path / "photos", {n: n.encode() * 50 for n in names}, {n: f"photo {n}" for n in names})
    return tmp_path / "photos"


@pytest.fixture
def data(photos: Path) -> DataConfig:
    return dataclasses.replace(compose_job().data, path=str(photos), val_path=None, val_fraction=0.1)


@pytest.fixture
def before(data: DataConfig, tmp_path: Path) -> Path:
    return _store(data, tmp_path)


def _store(data: DataConfig, folder: Path) -> Path:
    name, text = write_form(take_inventory(data, []))
    (folder / name).write_text(text)
    return folder / name


def _captions(photos: Path) -> dict[str, str]:
    return {name: f"photo {name}" for name in sorted(p.name for p in photos.glob("*.png"))}


@pytest.mark.slow
def test_nothing_changed_and_no_image_is_read(before: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_digest", lambda image: pytest.fail(f"{image} was read"))
    assert changed_since(before, Path.cwd()) == []


@pytest.mark.slow
def test_touched_files_are_read_and_found_the_same(before: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = inventory._digest
    monkeypatch.setattr(inventory, "_digest", lambda image: (read.append(image.name), real(image))[1])
    (photos / "b.png").touch()
    assert changed_since(before, Path.cwd()) == []
    assert read == ["b.png"], "and no other"


@pytest.mark.slow
def test_everything_that_changed_is_named_and_the_rest_counted(before: Path, photos: Path) -> None:
    (photos / "a.png").unlink()
    _write(photos, {"b.png": b"other", "x.png": b"new"}, {})
    _write(photos, {}, _captions(photos) | dict.fromkeys(["c.png", "d.png", "e.png", "f.png"], "another word"))
    assert changed_since(before, Path.cwd()) == [
        f"data.path ({photos}): 1 file added (x.png), 1 file removed (a.png), 1 file altered (b.png), "
        "4 captions altered (c.png, d.png, e.png and 1 more)"
    ]


def test_an_image_replaced_by_one_of_its_size_and_time_is_noticed(before: Path, photos: Path) -> None:
    """``cp -p`` and ``tar`` set the time of the content; that of the inode they cannot set."""
    content = (photos / "c.png").read_bytes()
    _write(photos, {"c.png": content[::-1]}, _captions(photos))
    assert (photos / "c.png").stat().st_size == len(content)
    assert changed_since(before, Path.cwd()) == [f"data.path ({photos}): 1 file altered (c.png)"]


@pytest.mark.slow
def test_other_names_are_no_change_since_order_goes_by_content(before: Path, photos: Path) -> None:
    captions = _captions(photos)
    (photos / "a.png").rename(photos / "z.png")
    captions["z.png"] = captions.pop("a.png")
    _write(photos, {}, captions)
    assert changed_since(before, Path.cwd()) == []
    (photos / "b.png").write_bytes(b"other")
    assert changed_since(before, Path.cwd()) == [f"data.path ({photos}): 1 file altered (b.png)"], "the move is no news"


@pytest.mark.slow
def test_an_image_given_twice_is_one_more(before: Path, photos: Path) -> None:
    _write(photos, {"z.png": (photos / "a.png").read_bytes()}, _captions(photos) | {"z.png": "photo a.png"})
    assert changed_since(before, Path.cwd()) == [f"data.path ({photos}): 1 file added (z.png)"]


def test_a_folder_that_is_gone_is_said_so(before: Path, photos: Path) -> None:
    photos.rename(photos.with_name("moved"))
    assert changed_since(before, Path.cwd()) == [
        f"data.path: {photos} is missing, allowed is a folder of captioned images"
    ]


def test_both_folders_are_looked_at_from_where_the_sweep_began(
    photos: Path, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "held", {"v.png": b"v"}, {"v.png": "v"})
    monkeypatch.chdir(tmp_path)
    name, text = write_form(take_inventory(dataclasses.replace(data, path=photos.name, val_path="held"), []))
    (tmp_path / name).write_text(text)
    monkeypatch.chdir("/")
    assert changed_since(tmp_path / name, tmp_path) == []
    (tmp_path / "held" / "v.png").write_bytes(b"w")
    assert changed_since(tmp_path / name, tmp_path) == ["data.val_path (held): 1 file altered (v.png)"]
    assert len(changed_since(tmp_path / name, tmp_path / "held") or []) == 2, "from elsewhere nothing is there"


@pytest.mark.slow
def test_what_the_checks_read_counts_and_a_file_altered_meanwhile_is_not_trusted(
    data: DataConfig, photos: Path, tmp_path: Path
) -> None:
    """The digests are those of the training, even where the file on the disk is another one by then."""
    records = [Record(image=p, caption="x", digest="0" * 64) for p in photos.glob("*.png")]
    taken = take_inventory(data, records)["data.path"].files
    assert {entry.digest for entry in taken.values()} == {"0" * 64}
    assert {entry.stat for entry in taken.values()} == {None}, "written a moment ago, read again, found altered"
    name, text = write_form(take_inventory(data, records))
    (tmp_path / name).write_text(text)
    assert "6 files altered (a.png, b.png, c.png and 3 more)" in (changed_since(tmp_path / name, Path.cwd()) or [""])[0]


def test_settled_files_are_not_read_again_after_the_checks(
    data: DataConfig, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_digest", lambda image: pytest.fail(f"{image} was read"))
    monkeypatch.setattr(inventory.time, "time_ns", lambda: int((time.time() + 7200) * 1e9))
    records = [Record(image=p, caption="x", digest="0" * 64) for p in photos.glob("*.png")]
    assert all(entry.stat for entry in take_inventory(data, records)["data.path"].files.values())


def test_an_image_that_cannot_be_opened_is_an_entry_of_its_own(
    data: DataConfig, before: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> str:
        raise PermissionError(13, "Permission denied")

    (photos / "a.png").touch()
    monkeypatch.setattr(inventory, "_digest", refuse)
    assert changed_since(before, Path.cwd()) == [f"data.path ({photos}): 1 file altered (a.png)"]
    assert data.path == str(photos)


def test_a_folder_is_looked_at_again_as_it_was_read(
    tmp_path: Path, data: DataConfig, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captions from names, kohya's repeats and links count as they did, whatever the defaults are by then."""
    (photos / "metadata.csv").unlink()
    outside = tmp_path / "elsewhere"
    photos.rename(outside)
    photos.mkdir()
    (photos / "10_anna").symlink_to(outside)
    read = dataclasses.replace(data, captions="name", repeats="auto", follow_links=True)
    before = _store(read, tmp_path)
    monkeypatch.chdir("/")
    assert changed_since(before, Path.cwd()) == []
    (photos / "10_anna").unlink()
    (photos / "9_anna").symlink_to(outside)
    assert "added" in (changed_since(before, Path.cwd()) or [""])[0], "the same images, nine times instead of ten"


def test_an_inventory_of_the_first_version_is_compared_without_repeats(
    tmp_path: Path, data: DataConfig, photos: Path
) -> None:
    kohyas = photos.with_name("10_anna")
    photos.rename(kohyas)
    before = _store(dataclasses.replace(data, path=str(kohyas), repeats=None), tmp_path)
    stored = json.loads(before.read_text())
    assert stored["sets"]["data.path"].pop("reading") == {"captions": "auto", "repeats": False, "follow_links": False}
    before.write_text(json.dumps(stored))
    assert changed_since(before, Path.cwd()) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 1, "sets": {"a": {"path": "", "files": {}, "reading": {"x": 1}}}}',
        '{"format": 2, "sets": {}}',
        '{"format": 1, "sets": {"a": 1}}',
    ],
)
def test_a_damaged_or_foreign_inventory_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert read_inventory(tmp_path / "x.json") is None
    assert changed_since(tmp_path / "x.json", Path.cwd()) is None
    assert changed_since(tmp_path / "nowhere.json", Path.cwd()) is None


@pytest.mark.slow
def test_the_name_tells_the_content_and_not_the_times(data: DataConfig, photos: Path, tmp_path: Path) -> None:
    first = _store(data, tmp_path)
    (photos / "a.png").touch()
    assert _store(data, tmp_path) == first
    (photos / "a.png").write_bytes(b"other")
    assert _store(data, tmp_path) != first


@pytest.mark.slow
def test_looking_imports_neither_torch_nor_pillow() -> None:
    probe = "import sys, lora_foundry.data.inventory; print([m for m in ('torch', 'PIL', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "[]\n"
