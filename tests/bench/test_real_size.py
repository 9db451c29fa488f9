"""The bench of Stable Diffusion's real size: what it reads of the others, and what it makes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.kohya import Kohya
from bench.real_size import Cost, cost, report, write_images


def _costs(*seconds: float) -> list[Cost]:
    return [Cost(seconds=s, system_s=1.0, faults=2_000_000, steps_per_s=0.5) for s in seconds]


def test_ratios_are_medians_round_by_round_and_a_sweep_stands_against_as_many_runs() -> None:
    names = ("foundry 1", "kohya 1", "foundry 4", "kohya 4", "untuned 4", "foundry sweep")
    seconds = ((10, 20, 30), (12, 30, 33), (10, 10, 10), (9, 9, 9), (20, 20, 20), (20, 50, 60))
    costs = {name: _costs(*each) for name, each in zip(names, seconds, strict=True)}
    result = report(costs, steps=3, rounds=3, quick=True)
    assert [claim.measured for claim in result.claims] == ["1.20x as fast", "0.90x as fast", "2.40x as fast"]
    assert [claim.holds for claim in result.claims] == [True, False, True]
    assert result.tables[0].rows[1] == ["kohya, batch 1", "30.0", "0.50", "2.0", "1.0"]


def test_without_copies_of_the_others_nothing_is_claimed() -> None:
    costs = {name: _costs(10) for name in ("foundry 1", "foundry 4", "untuned 4", "foundry sweep")}
    assert report(costs, steps=3, rounds=1, quick=True).claims == []


@pytest.mark.parametrize(
    ("said", "speed"), [("2/3 [00:04<00:02,  2.13s/it] 3/3 [00:06<00:00,  2.5s/it]", 0.4), ("20/20 [1.6it/s]", 1.6)]
)
def test_kohyas_own_progress_bar_is_read(said: str, speed: float, tmp_path: Path) -> None:
    (tmp_path / "base" / "tokenizer").mkdir(parents=True)
    (tmp_path / "output.log").write_text(said)
    assert Kohya(tmp_path, tmp_path, tmp_path / "base", tmp_path, None).steps_per_s() == pytest.approx(speed)


@pytest.mark.slow
def test_the_images_have_captions_and_a_folder_named_as_kohya_wants_it(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    assert folder.name == "1_x"
    assert len(list(folder.glob("*.png"))) == len(list(folder.glob("*.txt"))) == 16


def test_pages_of_a_child_are_counted() -> None:
    import subprocess

    code = "x = bytearray(2**26)\nfor i in range(0, 2**26, 4096): x[i] = 1"
    took = cost(lambda: float(subprocess.run([sys.executable, "-c", code], check=True).returncode))
    assert took.faults > 10_000
    assert took.steps_per_s is None
