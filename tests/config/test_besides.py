"""Scores and pictures: how often by themselves, and what they cost beside the steps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode

from lora_foundry.config import JobConfig
from lora_foundry.config.besides import STEP_FORWARDS, besides, is_drawn, is_scored, rows_drawn, rows_scored
from lora_foundry.config.compose import compose_job
from lora_foundry.launch.plan.beside import cost_of
from tests.config.test_usual import MODELS
from tests.root import PROJECT_ROOT

BATCHES = (1, 2, 4, 8)
# A row's step over a row of a forward pass without gradients, in time: tiny-sd with rank 8 on all blocks, one core.
IN_TIME = {1: 8.6, 2: 5.9, 4: 4.1, 8: 3.0}
TARGETS = [*("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2")]
LONG = 100_000  # samples; the ends weigh nothing


def job(*words: str) -> JobConfig:
    return compose_job("data=folder", "data.path=photos", *words)


def share(config: JobConfig, total: int, forwards: float = STEP_FORWARDS) -> float:
    """Of scoring and drawing together, in what the steps take."""
    beside = besides(config, total)
    return (beside.scoring + beside.drawing) / beside.steps * STEP_FORWARDS / forwards


@pytest.mark.parametrize("name", MODELS)
def test_by_default_scores_and_pictures_cost_less_than_a_tenth_at_any_batch(name: str) -> None:
    one = job(f"model={name}")
    for batch in BATCHES:
        config = replace(one, data=replace(one.data, batch_size=batch))
        assert 0.07 < share(config, LONG // batch) < 0.1, "where each operation takes its time"
        assert config.trainer.max_steps is not None
        assert share(config, config.trainer.max_steps, IN_TIME[batch]) < 0.1, "with its end, as timed"
        assert batch < 4 or share(config, config.trainer.max_steps) < 0.1, "with its end, by operations"
        accumulated = replace(one, trainer=replace(one.trainer, accumulate=batch))
        assert share(accumulated, LONG // batch) < 0.1


@pytest.mark.slow
def test_a_frozen_bases_step_is_worth_as_many_forwards_as_is_said() -> None:
    config = json.loads((PROJECT_ROOT / "assets/tiny-sd/unet/config.json").read_text())
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(config)
        unet.requires_grad_(requires_grad=False)
        row = torch.empty(1, 4, 16, 16), torch.tensor([5]), torch.empty(1, 77, config["cross_attention_dim"])
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            unet(*row)
        unet.add_adapter(LoraConfig(r=8, target_modules=TARGETS))
        with FlopCounterMode(display=False) as both:
            unet(*row).sample.sum().backward()
    assert pytest.approx(both.get_total_flops() / forward.get_total_flops(), rel=0.05) == STEP_FORWARDS


def steps(config: JobConfig, total: int, due: Any = is_scored) -> list[int]:
    return [step for step in range(1, total + 1) if due(config, step, total)]


@pytest.mark.slow
def test_a_default_job_is_scored_every_768_samples_and_draws_every_1920() -> None:
    assert steps(job(), 400) == [192, 400]
    assert steps(job("data.batch_size=1"), 2304) == [768, 1536, 2304]
    assert steps(job("trainer.accumulate=2"), 288) == [96, 192, 288]
    assert steps(job(), 1440, is_drawn) == [480, 960, 1440]
    assert steps(job("data.batch_size=5"), 600) == [154, 308, 462, 600], "no more often where it does not divide"


@pytest.mark.slow
def test_what_would_come_just_before_the_end_is_left_to_the_end() -> None:
    assert steps(job(), 479) == [192, 479]
    assert steps(job(), 480) == [192, 384, 480]
    assert steps(job(), 719, is_drawn) == [719]
    assert steps(job("validation.every=192"), 400) == [192, 384, 400], "what was asked for is done"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "scored", "drawn"),
    [
        (("validation.every=150", "sample.every=399"), [150, 300, 400], [399, 400]),
        (("validation.every=null", "sample.every=null"), [400], [400]),
        (("validation.every=null", "trainer.save_every=250"), [250, 400], [400]),
    ],
)
def test_who_says_how_often_is_heard(words: tuple[str, ...], scored: list[int], drawn: list[int]) -> None:
    config = job(*words)
    assert (steps(config, 400), steps(config, 400, is_drawn)) == (scored, drawn)


@pytest.mark.slow
@pytest.mark.parametrize("total", [1, 159, 400, 401, 777])
@pytest.mark.parametrize(
    "words", [(), ("trainer.save_every=50",), ("validation.every=7", "sample.every=null"), ("sample.every=1",)]
)
def test_what_is_counted_is_what_is_done(words: tuple[str, ...], total: int) -> None:
    config, beside = job(*words), besides(job(*words), total)
    assert beside.scoring == len(steps(config, total)) * rows_scored(config)
    assert beside.drawing == len(steps(config, total, is_drawn)) * rows_drawn(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ((), 4 * 20 * 2),
        (("sample.prompts=[a,b,c,d,e]", "sample.seeds=[0,1]"), 10 * 20 * 2),
        (("sample.guidance=1", "sample.scales=[0.0,0.5,1.0]"), 4 * 2 * 20),
        (("data=emoji-flat",), 4 * 20 * 2),
        (("sample=none",), 0),
    ],
)
def test_rows_of_a_drawing(words: tuple[str, ...], rows: int) -> None:
    assert rows_drawn(job(*words)) == rows
    assert (steps(job(*words), 10_000, is_drawn) == [10_000]) == (rows == 0)


@pytest.mark.slow
def test_a_check_costs_its_rows_once() -> None:
    plain, checked = besides(job(), 400), besides(job("validation.check_images=5"), 400)
    assert checked.scoring - plain.scoring == 5 * 8


@pytest.mark.slow
def test_more_rows_are_taken_less_often() -> None:
    many = job("validation.max_images=64", "sample.prompts=[a,b,c,d,e,f,g,h]", "sample.steps=50")
    assert share(many, LONG // 4) < 0.1


@pytest.mark.slow
def test_the_plan_tells_what_it_costs() -> None:
    asked = job("validation.every=100", "sample.every=200", "data.batch_size=1", "sample.scales=[0,0.8,1]")
    said = str(cost_of([asked], lambda _: LONG, 600.0))
    assert said == ("Beside the steps: scoring at most 30.5 % of their time, pictures at most 76.2 %: 11 min in all.")
    none = str(cost_of([job("sample=none")], lambda _: 400, None))
    assert none == "Beside the steps: scoring at most 3.8 % of their time, and no pictures are drawn."
    assert cost_of([asked], lambda _: None, 1.0) is None


@pytest.mark.slow
def test_jobs_of_a_sweep_are_counted_together() -> None:
    short, long = job("trainer.max_steps=1"), job("trainer.max_steps=10000")
    assert str(cost_of([short, long], lambda config: config.trainer.max_steps, 100.0)) == (
        "Beside the steps: scoring at most 4.0 % of their time, pictures at most 4.2 %: 8 s in all."
    )
