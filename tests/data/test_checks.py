"""The checks of a whole data set: all problems at once, skipping, splitting, warnings, the hash."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.checks import check_data, validation_view
from lora_foundry.data.records import DataError
from tests.phrases import FIT_ALONE
from tests.root import PROJECT_ROOT

MakeConfig = Callable[..., DataConfig]
Folder = Callable[..., Path]
Draw = Callable[..., Path]
NAMES = [f"{letter}.png" for letter in "abcdefghij"]


@pytest.fixture
def sets(tmp_path: Path, folder: Folder) -> Path:
    """Ten images to train on, two held out."""
    folder(tmp_path / "train", NAMES)
    folder(tmp_path / "val", ["y.png", "z.png"])
    return tmp_path


def spoil(train: Path, draw: Draw) -> list[str]:
    """Add one row of every kind of badness; what each one's line must hold."""
    sound = (train / "a.png").read_bytes()
    (train / "cut.png").write_bytes(sound[: len(sound) // 2])
    (train / "page.png").write_bytes(b"<html>")
    draw(train.parent / "outside.png")
    (train / "link.png").symlink_to(train.parent / "outside.png")
    draw(train / "mute.png")
    with (train / "metadata.csv").open("a") as table:
        table.write(
            "gone.png,x\ncut.png,x\npage.png,x\nlink.png,x\n../outside.png,x\nmute.png,\na.png,again\nb.png,a,b\n"
        )
    return [
        "gone.png",
        "cut.png",
        "page.png",
        "link.png",
        "../outside.png",
        "mute.png",
        "a.png a second time",
        "3 cells",
    ]


@pytest.mark.usefixtures("sets")
def test_a_sound_set_gives_records_ordered_by_content(config: MakeConfig) -> None:
    checked = check_data(config(), count_tokens=None, max_tokens=None)
    assert {r.image.name: r.caption for r in checked.train} == {name: f"a {name[0]}" for name in NAMES}
    assert {r.image.name for r in checked.val} == {"y.png", "z.png"}
    assert [r.digest for r in checked.train] == sorted(r.digest for r in checked.train)
    assert all(r.image.is_absolute() for r in checked.train)
    assert checked.warnings == checked.skipped == ()


def test_all_problems_of_both_folders_and_the_settings_come_at_once(config: MakeConfig, sets: Path, draw: Draw) -> None:
    expected = spoil(sets / "train", draw)
    (sets / "val" / "metadata.csv").write_bytes("\ufefffilename,prompt\n".encode("utf-16-le"))
    with pytest.raises(DataError) as caught:
        check_data(config(background="wite"), count_tokens=None, max_tokens=None)
    problems = caught.value.problems
    assert len(problems) == len(expected) + 2
    for words in [*expected, "data.background: got 'wite'", "UTF-16"]:
        assert [line for line in problems if words in line], words
    assert all(line in str(caught.value) for line in problems)


def test_skip_lists_the_bad_rows_and_keeps_the_rest(config: MakeConfig, sets: Path, draw: Draw) -> None:
    clean = check_data(config(), count_tokens=None, max_tokens=None)
    expected = spoil(sets / "train", draw)
    checked = check_data(config(on_bad="skip"), count_tokens=None, max_tokens=None)
    assert checked.train == clean.train
    assert len(checked.skipped) == len(expected)
    for words in expected:
        assert [line for line in checked.skipped if words in line], words


@pytest.mark.parametrize("broken", ["missing folder", "wrong columns", "background"])
def test_skip_does_not_pass_over_what_is_no_row(config: MakeConfig, sets: Path, broken: str) -> None:
    changes = {"on_bad": "skip"}
    if broken == "missing folder":
        changes["path"] = str(sets / "gone")
    elif broken == "wrong columns":
        (sets / "train" / "metadata.csv").write_text("image,caption\na.png,x\n")
    else:
        changes["background"] = "nocolour"
    with pytest.raises(DataError):
        check_data(config(**changes), count_tokens=None, max_tokens=None)


def test_skipping_everything_is_an_error_that_lists_what_was_skipped(config: MakeConfig, sets: Path) -> None:
    (sets / "val" / "metadata.csv").write_text("filename,prompt\nno.png,x\n")
    with pytest.raises(DataError) as caught:
        check_data(config(on_bad="skip"), count_tokens=None, max_tokens=None)
    assert "data.val_path" in caught.value.problems[0]
    assert "no.png" in caught.value.problems[1]


def test_a_long_list_of_problems_is_cut_in_the_message_only(config: MakeConfig, sets: Path) -> None:
    rows = "".join(f"gone{i}.png,x\n" for i in range(200))
    (sets / "train" / "metadata.csv").write_text("filename,prompt\n" + rows)
    with pytest.raises(DataError, match="and 150 more") as caught:
        check_data(config(), count_tokens=None, max_tokens=None)
    assert len(caught.value.problems) == 200


def test_an_image_over_pillows_limit_is_bad_and_the_limit_stays(
    config: MakeConfig, sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (60, 60)).save(sets / "train" / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # Pillow warns from 3000 on and refuses from 6000 on
    with pytest.raises(DataError, match=r"a\.png exceeds Pillow's limit of 3000 pixels"):
        check_data(config(), count_tokens=None, max_tokens=None)
    assert Image.MAX_IMAGE_PIXELS == 3000


def test_captions_over_the_tokenizers_length_are_counted(config: MakeConfig, sets: Path) -> None:
    with (sets / "train" / "metadata.csv").open("a") as table:
        table.write("long.png," + "word " * 90 + "\n")
    Image.new("RGB", (20, 20)).save(sets / "train" / "long.png")
    checked = check_data(config(), count_tokens=lambda text: len(text.split()) + 2, max_tokens=77)
    assert len(checked.warnings) == 1
    assert "1 captions" in checked.warnings[0].text
    assert "long.png: 92" in checked.warnings[0].text
    assert "77" in checked.warnings[0].text
    assert check_data(config(), count_tokens=None, max_tokens=77).warnings == ()
    just_fits = check_data(config(), count_tokens=lambda text: len(text.split()) + 2, max_tokens=92)
    assert just_fits.warnings == ()


@pytest.mark.usefixtures("sets")
def test_the_prefix_is_part_of_the_caption_and_of_its_length(config: MakeConfig) -> None:
    seen: list[str] = []

    def count(text: str) -> int:
        seen.append(text)
        return 1

    checked = check_data(config(caption_prefix="sks"), count_tokens=count, max_tokens=77)
    assert {r.caption for r in checked.val} == {"sks a y", "sks a z"}
    assert set(seen) == {r.caption for r in (*checked.train, *checked.val)}
    spaced = check_data(config(caption_prefix="sks, "), count_tokens=None, max_tokens=None)
    assert {r.caption for r in spaced.val} == {"sks, a y", "sks, a z"}


def test_small_images_equal_images_and_leaks_are_warned_of(config: MakeConfig, sets: Path) -> None:
    (sets / "train" / "b.png").write_bytes((sets / "train" / "a.png").read_bytes())
    (sets / "val" / "z.png").write_bytes((sets / "train" / "c.png").read_bytes())
    warnings = check_data(config(resolution=32), count_tokens=None, max_tokens=None).warnings
    warnings = [one.text for one in warnings]
    assert any("10 of 10 images are smaller than 32 px" in line for line in warnings)
    assert any("2 training images have equal bytes" in line for line in warnings)
    assert any("1 of 2 held-out images" in line and "z.png" in line for line in warnings)


def test_a_fraction_is_held_out_by_content_not_by_name_or_order(config: MakeConfig, sets: Path) -> None:
    data = config(val_path=None, val_fraction=0.3)
    first = check_data(data, count_tokens=None, max_tokens=None)
    train = sets / "train"
    assert len(first.train) == 7
    assert len(first.val) == 3
    assert not {r.digest for r in first.train} & {r.digest for r in first.val}
    rows = (train / "metadata.csv").read_text().splitlines()
    (train / "a.png").rename(train / "zz.png")
    (train / "metadata.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]).replace("a.png", "zz.png"))
    again = check_data(data, count_tokens=None, max_tokens=None)
    assert [r.digest for r in again.val] == [r.digest for r in first.val]
    assert [r.digest for r in again.train] == [r.digest for r in first.train]
    assert again.data_hash == first.data_hash


def test_equal_images_are_held_out_together(config: MakeConfig, sets: Path) -> None:
    for name in NAMES[1:6]:
        (sets / "train" / name).write_bytes((sets / "train" / "a.png").read_bytes())
    for fraction in (0.1, 0.3, 0.5):
        checked = check_data(config(val_path=None, val_fraction=fraction), count_tokens=None, max_tokens=None)
        assert not {r.digest for r in checked.train} & {r.digest for r in checked.val}


@pytest.mark.parametrize(("fraction", "warned"), [(0.1, True), (0.0, False)])
def test_one_image_is_trained_on_and_judged_by_itself(
    config: MakeConfig, sets: Path, fraction: float, *, warned: bool
) -> None:
    """With a fraction of 0 it is the configuration that is warned of, before anything starts."""
    (sets / "train" / "metadata.csv").write_text("filename,prompt\na.png,x\n")
    checked = check_data(config(val_path=None, val_fraction=fraction), count_tokens=None, max_tokens=None)
    assert [r.image.name for r in checked.train] == [r.image.name for r in checked.val] == ["a.png"]
    about = [one.text for one in checked.warnings if one.topic == "held-out"]
    assert len(about) == warned
    assert all(FIT_ALONE in text for text in about)


@pytest.mark.usefixtures("sets")
def test_a_fraction_of_0_trains_on_all_and_is_judged_on_the_same_images(config: MakeConfig) -> None:
    checked = check_data(config(val_path=None, val_fraction=0.0), count_tokens=None, max_tokens=None)
    assert len(checked.train) == len(NAMES)
    assert checked.val == checked.train
    assert not [one for one in checked.warnings if "trained on too" in one.text]


def test_the_hash_follows_what_training_sees_and_nothing_else(config: MakeConfig, sets: Path) -> None:
    def data_hash(**changes: object) -> str:
        return check_data(config(**changes), count_tokens=None, max_tokens=None).data_hash

    base = data_hash()
    same = [
        data_hash(batch_size=7),
        data_hash(name="other"),
        data_hash(background="#ffffff"),
        data_hash(crop_variants=9),
    ]
    other = [
        data_hash(resolution=8), data_hash(crop="none"), data_hash(flip=True), data_hash(background="black"),
        data_hash(caption_prefix="sks"), data_hash(crop="random"), data_hash(crop="random", crop_variants=9),
    ]  # fmt: skip
    assert set(same) == {base}
    assert len({base, *other}) == len(other) + 1
    table = sets / "val" / "metadata.csv"
    table.write_text(table.read_text().replace("a y", "the y"))
    assert data_hash() != base


def test_held_out_images_are_seen_unmirrored_and_from_the_middle(config: MakeConfig) -> None:
    seen = validation_view(config(flip=True, crop="random", caption_dropout=0.5))
    assert (seen.flip, seen.crop, seen.caption_dropout) == (False, "center", 0.0)
    assert validation_view(config(crop="none")).crop == "none"


@pytest.mark.slow
def test_checking_imports_no_torch() -> None:
    code = "import sys, lora_foundry.data.checks; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT, env={**os.environ, "PYTHONPATH": "."})


@pytest.mark.parametrize(("style", "least"), [("emoji-flat", 60), ("emoji-duotone", 60)])
def test_the_shipped_drawings_are_sound(config: MakeConfig, style: str, least: int) -> None:
    data = config(path=f"assets/{style}/train", val_path=f"assets/{style}/val", resolution=64)
    checked = check_data(data, count_tokens=lambda text: len(text.split()) + 2, max_tokens=77)
    assert len(checked.train) >= least
    assert len(checked.val) >= 16
    assert checked.skipped == checked.warnings == ()


@pytest.mark.usefixtures("sets")
def test_each_image_is_in_one_fold_and_learned_by_all_others(config: MakeConfig) -> None:
    parts = [check_data(config(val_path=None, folds=3, fold=fold), count_tokens=None, max_tokens=None)
             for fold in range(3)]  # fmt: skip
    held_out = [{record.shown for record in part.val} for part in parts]
    assert sorted(name for names in held_out for name in names) == NAMES
    assert sorted(map(len, held_out)) == [3, 3, 4]
    for part, names in zip(parts, held_out, strict=True):
        assert {record.shown for record in part.train} == {*NAMES} - names
    assert len({part.data_hash for part in parts}) == 3
    whole = check_data(config(val_path=None, folds=3, fold="all"), count_tokens=None, max_tokens=None)
    assert {record.shown for record in whole.train} == {record.shown for record in whole.val} == {*NAMES}


def test_equal_images_are_of_one_fold_and_there_are_no_more_folds_than_different_ones(
    config: MakeConfig, folder: Folder, tmp_path: Path
) -> None:
    folder(tmp_path / "train", ["a.png", "b.png", "c.png"])
    (tmp_path / "train" / "d.png").write_bytes((tmp_path / "train" / "a.png").read_bytes())
    with (tmp_path / "train" / "metadata.csv").open("a") as table:
        table.write("d.png,another\n")
    for fold in range(3):
        part = check_data(config(val_path=None, folds=3, fold=fold), count_tokens=None, max_tokens=None)
        held_out = {record.shown for record in part.val}
        assert ("a.png" in held_out) == ("d.png" in held_out)
    with pytest.raises(DataError, match=r"data\.folds: got 4, allowed are at most 3 folds of the 3 different images"):
        check_data(config(val_path=None, folds=4, fold=0), count_tokens=None, max_tokens=None)
