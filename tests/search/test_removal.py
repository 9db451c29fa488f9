"""A job again without one group of its images at a time: what is trained, and what is told of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from lora_foundry.commands import ablate
from lora_foundry.config.errors import SweepError
from lora_foundry.judge.intervals import Interval
from lora_foundry.judge.removal import Effect, Removals
from lora_foundry.launch.farm.outcome import WRONG_INPUT
from lora_foundry.report.removal import draw, named, sentence, told
from lora_foundry.search.removal import Asked
from tests.commands.ran import FAKE_WORKER
from tests.launch.jobs import job

FOUR = [("a/*",), ("b c/*",), ("d.png", "e,.png"), ("tag:red hair",)]


def removals(*lows: float) -> Removals:
    effects = [
        Effect(without=(f"{place}/*",), loss=0.5 - low / 100, interval=Interval(percent=low + 1, low=low, high=low + 2))
        for place, low in enumerate(lows)
    ]
    return Removals(loss=0.5, images=16, seeds=1, effects=tuple(effects))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(10):
        path = tmp_path / "photos" / "abcde"[number // 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (number * 20, 0, 0)).save(path)
        path.with_suffix(".txt").write_text(f"card {number}")
    return tmp_path / "photos"


def test_the_line_trains_a_member_with_all_images_and_one_without_each_group_as_one_pack() -> None:
    line = Asked(words=("lora.rank=4", "seed=7")).line(FOUR, 50, job(seed=7))
    assert line[0] == "lora.rank=4"
    assert "data.without=[],['a/*'],['b c/*'],[d.png,'e,.png'],['tag:red hair']" in line
    assert {"seed=7", "trainer.max_steps=50", "trainer.epochs=null", "hydra.launcher.pack_size=5", "-m"} <= set(line)
    assert {"trainer.keep_best=null", "trainer.patience=null", "hydra.launcher.pruner=none"} <= set(line)
    seeds = Asked(words=(), seeds=3).line(FOUR[:2], 50, job())
    assert "seed=0,1,2" in seeds
    assert "hydra.launcher.pack_size=9" in seeds


def test_few_groups_have_two_seeds_of_each_and_one_is_refused() -> None:
    assert "seed=0,1" in Asked(words=()).line(FOUR[:3], 50, job())
    with pytest.raises(SweepError, match="--seeds: got 1 with 3 groups, allowed are at least 2"):
        Asked(words=(), seeds=1).line(FOUR[:3], 50, job())


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (Asked(words=(), groups=1), "--groups: got 1"),
        (Asked(words=(), seeds=0), "--seeds: got 0"),
        (Asked(words=("data.without=[a]",)), "what is left out is to be found"),
        (Asked(words=("seed=0,1",)), "give one, and how many with --seeds"),
    ],
)
def test_what_cannot_be_found_is_told(asked: Asked, line: str) -> None:
    with pytest.raises(SweepError, match=line):
        asked.check()


def test_the_command_to_go_on_with_leaves_out_what_harms_and_has_a_folder_of_its_own() -> None:
    asked = Asked(words=("data=folder", "hydra.sweep.dir=/tmp/short"))
    assert asked.without(["a/*", "b"]) == ["data=folder", "data.without=['a/*',b]"]


def test_a_harmful_group_is_named_with_its_interval_and_a_doubtful_one_is_not() -> None:
    lines = told(removals(0.5, -0.5, -3.0))
    assert lines[1] == "nothing  0.500"
    assert lines[2] == "0/*      0.495   +1.50 % [+0.50, +2.50]  harms"
    assert not lines[3].endswith("harms")
    assert lines[-1].startswith("Leave out 0/* (+1.50 % [+0.50, +2.50]): the loss is lower without, by 16 held-out")
    assert (
        sentence(removals(-0.5, -1)) == "No group does harm that 16 held-out images can show; --seeds 3 looks closer."
    )


def test_a_group_of_many_images_is_called_by_the_first_and_none_ends_a_terminal() -> None:
    assert named(["a.png", "b.png", "c.png"]) == "3: a.png, b.png, ..."
    assert len(named(["x" * 90])) == 40
    assert "\x1b" not in named(["\x1b[2J"])


def test_the_picture_has_a_line_for_each_group(tmp_path: Path) -> None:
    few, many = draw(tmp_path, removals(1, -1)), tmp_path / "many"
    many.mkdir()
    with Image.open(few) as one, Image.open(draw(many, removals(*[-1.0] * 12))) as other:
        assert other.height > one.height
        assert one.width == other.width


@pytest.mark.slow
def test_the_command_groups_trains_tells_and_tells_again(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ablate.py"])
    words = ["data=folder", f"data.path={photos}", "data.val_path=null", "tracking=none", "trainer.epochs=2"]
    words += [FAKE_WORKER, f"hydra.sweep.dir={tmp_path}/s", "trainer.max_steps=5"]
    assert ablate.main(words) == 0
    out = capsys.readouterr().out
    assert "9 training images in 5 groups by folder" in out
    assert "flat" not in out
    assert "No group does harm that 1 held-out" not in out
    assert (tmp_path / "s" / "ablation.png").exists()
    again = [line for line in out.splitlines() if "/*" in line and "%" in line]
    assert len(again) == 5
    assert ablate.main([f"{tmp_path}/s"]) == 0
    assert again == [line for line in capsys.readouterr().out.splitlines() if "/*" in line and "%" in line]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lora.rnak=4"], "did you mean 'lora.rank'?"),
        (["lora.rank=4,8"], "lora.rank"),
        (["nobody"], "which is no folder, no sweep's id and no adapter's name"),
        (["--by", "folder"], "have 0 such groups; put each group in a folder of its own"),
    ],
)
def test_what_is_wrong_is_told_before_anything_trains(
    words: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["ablate.py"])
    assert ablate.main([*words, *([] if words == ["nobody"] else [f"hydra.sweep.dir={tmp_path}/s"])]) == WRONG_INPUT
    assert line in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
