"""The grid of a finished sweep, read back by the colour of its cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageColor

from lora_foundry.judge.verdict import verdict_of
from lora_foundry.report import finish_sweep
from lora_foundry.report.comparison import Column, _member_columns
from lora_foundry.report.drawings import read_drawings
from lora_foundry.report.lettering import ACCENT, font, wrap
from lora_foundry.report.tiles import cell_side, tile
from lora_foundry.wire.outcomes import JobOutcome
from tests.judge.outcomes import outcome
from tests.wire.summaries import summary

BASE, RED, GREEN, BLUE = (120, 120, 120), (250, 10, 10), (10, 250, 10), (10, 10, 250)
EMPTY = (243, 245, 247)
Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """``draw(job, colour, scale=1.0, prompt=..., step=..., seed=0, side=64)`` adds a picture and its event."""
    (tmp_path / "spool").mkdir()

    def add(job: int, colour: tuple[int, int, int], **given: Any) -> Path:
        event = {"prompt": "pizza", "seed": 0, "scale": 1.0, "step": 300, **given}
        side = event.pop("side", 64)
        number = len(list(tmp_path.rglob("*.png")))
        path = tmp_path / str(job) / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (side, side), colour).save(path)
        event |= {"t": 1.0 + number, "kind": "image", "job": job, "path": str(path.relative_to(tmp_path))}
        event |= {"key": f"samples/{event['prompt']}/scale {event['scale']}", "samples": event["step"]}
        with (tmp_path / "spool" / "pack-0.jsonl").open("a") as file:
            file.write(json.dumps(event) + "\n")
        return path

    return add


def result(index: int, rank: int, loss: float | None = 0.9, state: str = "FINISHED") -> JobOutcome:
    """How job ``index`` ended."""
    told = None if loss is None else summary(val_loss_rel=loss)
    return JobOutcome(
        job=index, name=f"flat-rank{rank}", dir=Path(str(index)), state=state, overrides={}, rank=rank,
        summary=told, error=None if state == "FINISHED" else "loss is not finite",
    )  # fmt: skip


def cells(picture: Path, columns: int, rows: int, side: int = 192) -> list[list[tuple[int, int, int]]]:
    """The colour in each cell, a little off its middle (empty cells have their words there)."""
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    right, bottom = image.width - 24, image.height - 24
    pitch = side + 12
    return [
        [
            image.getpixel((right - (columns - 1 - column) * pitch - side // 4, bottom - (rows - 1 - row) * pitch - 20))
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def test_rows_are_prompts_and_columns_base_then_members_by_rank(tmp_path: Path, draw: Draw) -> None:
    for prompt in ("pizza", "rocket"):
        for job, colour in ((0, BLUE), (1, RED)):
            draw(job, BASE, prompt=prompt, scale=0.0)
            draw(job, colour, prompt=prompt)
    picture = finish_sweep(tmp_path, [result(0, 16), result(1, 4)])
    assert picture == tmp_path / "comparison.png"
    assert cells(picture, 3, 2) == [[BASE, RED, BLUE], [BASE, RED, BLUE]]


def test_members_are_shown_at_the_highest_scale_of_their_last_step(tmp_path: Path, draw: Draw) -> None:
    draw(0, BASE, scale=0.0)
    draw(0, GREEN, scale=1.0)
    draw(0, RED, scale=0.8)
    draw(0, BLUE, scale=1.5, step=100)
    picture = finish_sweep(tmp_path, [result(0, 4)])
    assert picture is not None
    assert cells(picture, 2, 1) == [[BASE, GREEN]]


def test_failed_jobs_and_missing_files_leave_empty_cells(tmp_path: Path, draw: Draw) -> None:
    draw(0, BASE, scale=0.0)
    draw(0, GREEN)
    draw(1, RED).unlink()
    torn = draw(2, BLUE)
    torn.write_bytes(torn.read_bytes()[:-30])
    results = [result(0, 4), result(1, 8), result(2, 16), result(3, 32, None, "FAILED")]
    picture = finish_sweep(tmp_path, results)
    assert picture is not None
    assert cells(picture, 5, 1) == [[BASE, GREEN, EMPTY, EMPTY, EMPTY]]


def test_several_seeds_make_a_row_each(tmp_path: Path, draw: Draw) -> None:
    draw(0, RED, seed=0)
    draw(0, BLUE, seed=7)
    picture = finish_sweep(tmp_path, [result(0, 4)])
    assert picture is not None
    assert cells(picture, 1, 2) == [[RED], [BLUE]]


def test_a_sweep_that_drew_nothing_gets_no_picture(tmp_path: Path) -> None:
    assert finish_sweep(tmp_path, [result(0, 4)]) is None
    assert not (tmp_path / "comparison.png").exists()


def test_the_lowest_relative_loss_is_marked_best_and_states_are_told(tmp_path: Path, draw: Draw) -> None:
    draw(0, RED)
    drawings = read_drawings(tmp_path)
    results = [result(0, 4, 0.85), result(1, 8, 0.83), result(2, 16, None, "FAILED"), result(3, 32, None, "KILLED")]
    columns: list[Column] = _member_columns(drawings, results, verdict_of(results))
    assert [column.best for column in columns] == [False, True, False, False]
    told = ["val loss 0.850 of base", "val loss 0.830 of base"]
    assert [column.note for column in columns] == [*told, "failed", "killed"]


def test_which_to_keep_stands_above_all_columns_in_as_many_lines_as_it_takes(tmp_path: Path, draw: Draw) -> None:
    heights = {}
    for name, jobs in (("silent", 1), ("told", 2)):
        (tmp_path / name).mkdir()
        for job in range(jobs):
            draw(job, RED)
        results = [outcome(job, [0.2 + 0.1 * job, 0.21 + 0.1 * job, 0.19 + 0.12 * job]) for job in range(jobs)]
        with Image.open(finish_sweep(tmp_path, results) or "") as picture:
            heights[name] = picture.height
            said = picture.crop((24, 50, 300, 110)).get_flattened_data()
    assert heights["told"] > heights["silent"]
    assert list(said).count(ImageColor.getrgb(ACCENT)) > 50, "it is written in the colour of the best"


def test_a_best_that_is_not_the_last_is_told_with_its_step(tmp_path: Path, draw: Draw) -> None:
    draw(0, RED)
    before = result(0, 4, 0.9)
    told = {"steps": 400, "best_step": 300, "best_val_loss_rel": 0.8, "best_file": "0/best/x.safetensors"}
    results = [replace(before, summary=summary(val_loss_rel=0.9, **told))]
    columns = _member_columns(read_drawings(tmp_path), results, verdict_of(results))
    assert [column.note for column in columns] == ["val loss 0.800 of base at step 300"]


@pytest.mark.parametrize(
    ("side", "most", "cell"), [(64, 4000, 192), (512, 4000, 288), (128, 4000, 128), (64, 100, 100)]
)
def test_small_pictures_are_enlarged_and_large_ones_reduced(draw: Draw, side: int, most: int, cell: int) -> None:
    assert cell_side([draw(0, RED, side=side)], most=most) == cell


def test_transparent_pictures_stand_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    picture = tile(tmp_path / "clear.png", 32)
    assert picture is not None
    assert picture.size == (32, 16)
    assert picture.getpixel((5, 5)) == (255, 255, 255)


def test_long_names_are_wrapped_within_the_column_and_cut_with_an_ellipsis() -> None:
    face = font(17)
    name = "duotone-rank32-adamw-lr0.0002-batch4-accumulate2"
    for text in (name, name.replace("-", ""), "a b " * 40):
        lines = wrap(text, face, 192, 2)
        assert len(lines) == 2
        assert lines[-1].endswith("…")
        assert all(face.getlength(line) <= 192 for line in lines)
    assert wrap("flat-rank8", face, 192, 2) == ["flat-rank8"]
    assert wrap("red heart on snow", face, 80, 4) == ["red heart", "on snow"]
