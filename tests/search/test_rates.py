"""The short run of many learning rates: what is trained, and what its curves are read from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from lora_foundry.commands import find_lr
from lora_foundry.config.errors import SweepError
from lora_foundry.judge.rates import RateCurve
from lora_foundry.launch.farm.outcome import WRONG_INPUT
from lora_foundry.report.rates import draw, lines
from lora_foundry.search.rates import Asked
from tests.commands.ran import FAKE_WORKER
from tests.launch.jobs import job


def test_the_line_trains_all_rates_as_one_pack_for_few_samples() -> None:
    line = Asked(words=("data=emoji-flat",), rates=3, low=1e-4, high=1e-2, samples=100).line(job(data__batch_size=4))
    assert line[0] == "data=emoji-flat"
    assert "optimizer.lr=0.0001,0.001,0.01" in line
    assert {"scheduler=constant", "sample=none", "trainer.max_steps=25", "validation.every=7", "-m"} <= set(line)
    assert "hydra.launcher.pack_size=3" in line


def test_the_command_to_go_on_with_has_one_value_of_each_key_and_a_folder_of_its_own() -> None:
    asked = Asked(words=("data=folder", "lora.rank=4,8", "hydra.sweep.dir=/tmp/short"))
    assert asked.settled("lora.rank=8") == ["data=folder", "lora.rank=8"]


def test_rates_lie_around_what_the_base_usually_takes_unless_somebody_says_otherwise() -> None:
    asked = Asked(words=())
    assert asked.list_rates(1e-4)[4] == 1e-4
    assert asked.list_rates(1e-4)[-1] / asked.list_rates(1e-4)[0] == pytest.approx(1000, rel=0.05)
    assert Asked(words=(), low=1e-6).list_rates(1e-4)[0] == 1e-6
    assert Asked(words=(), high=1.0).list_rates(1e-4)[-1] == 1.0


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Asked(words=(), rates=2), "--rates: got 2"),
        (Asked(words=(), samples=0), "--samples: got 0"),
        (Asked(words=(), low=0.0), "--low: got 0.0"),
        (Asked(words=(), low=1e-2, high=1e-3), "allowed is a lower and a higher rate"),
        (Asked(words=("optimizer.lr=1e-3",)), "the rate is what is to be found"),
    ],
)
def test_what_cannot_be_found_is_told(asked: Asked, told: str) -> None:
    with pytest.raises(SweepError, match=told):
        asked.check()


def test_curves_are_drawn_for_a_terminal_and_as_a_picture(tmp_path: Path) -> None:
    curves = [
        RateCurve(rate=1e-4, samples=(40, 80), losses=(0.99, 0.98)),
        RateCurve(rate=1e-3, samples=(40, 80), losses=(0.9, 0.8)),
        RateCurve(rate=1e-2, samples=(40, 80), losses=(1.2, float("nan"))),
        RateCurve(rate=1e-1, samples=(), losses=(), failed=True),
    ]
    told = lines(curves, 1e-3)
    assert told[1].split() == ["0.001", "▃▁", "0.800", "use", "this"]
    assert told[2].endswith("unstable")
    assert "█·" in told[2]
    assert told[3].endswith("failed")
    with Image.open(draw(tmp_path, [("", curves, 1e-3)])) as picture:
        assert picture.width > 600


@pytest.mark.slow
def test_the_command_chooses_prints_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["lora.rank=2,4", "tracking=none", FAKE_WORKER, f"hydra.sweep.dir={tmp_path}/s"]
    monkeypatch.setattr(sys, "argv", ["find_lr.py"])
    code = find_lr.main([words[0], "--rates=3", *words[1:]])
    told = capsys.readouterr().out
    assert code in (0, 1), "a fake worker's losses are above the base's"
    assert "lora.rank=2" in told
    assert "lora.rank=4" in told
    assert (tmp_path / "s" / "find_lr.png").exists()


def test_what_is_wrong_with_its_words_is_told_before_anything_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["find_lr.py"])
    assert find_lr.main(["lora.rnak=4", f"hydra.sweep.dir={tmp_path}/s"]) == WRONG_INPUT
    assert "did you mean 'lora.rank'?" in capsys.readouterr().err
    assert find_lr.main(["data.folds=3", "data.val_path=null", f"hydra.sweep.dir={tmp_path}/s"]) == WRONG_INPUT
    assert "data.folds: curves of folds are of different images" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
