"""What the plugin tells the plan of packs' memory, against the memory room's own answers."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

from lora_foundry.config import JobConfig
from lora_foundry.config.compose import compose_job
from lora_foundry.config.doing import NO_DRAWING, WHILE
from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.plan.budget import Budget, Peak, budget_for
from lora_foundry.launch.plan.packing import make_plan
from lora_foundry.launch.plan.refusing import refuse_hopeless
from lora_foundry.memory import between, predict
from lora_foundry.memory.between import Pictures
from lora_foundry.memory.libraries import on_card
from lora_foundry.memory.predict import Curve, curve_of, together
from lora_foundry.memory.record import note_error
from lora_foundry.memory.scratch import Alive
from lora_foundry.models.opening import open_sizes
from lora_foundry.wiring.forecast import TracedForecast
from tests.config.chosen import optimizer

WORDS = ("data.batch_size=4", "lora.rank=8", "lora.target_modules=all", "trainer.gradient_checkpointing=true")
CARD = Slot(name="cuda-0", device="cuda:0", model="A card")


def _config(traces: Path, *words: str) -> JobConfig:
    return compose_job(f"data.cache_dir={traces}", *WORDS, *words)


def _cpu(threads: int) -> Slot:
    return Slot(name="cpu", device="cpu", threads=threads)


def _bytes(configs: list[JobConfig], slot: Slot) -> int:
    told = TracedForecast().peak_of(configs, slot, trace=True)
    assert told is not None
    return told.step


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_pack_on_a_cpu_takes_what_its_kernels_take_too(traces: Path, precision: str, threads: int) -> None:
    config = _config(traces, f"trainer.precision={precision}")
    alone, pack = (_bytes([config] * members, _cpu(threads)) for members in (1, 3))
    needs = [curve_of(config).needs(4 * n, [optimizer("adamw")] * n, cpu_threads=threads).tensors for n in (1, 3)]
    assert pack - alone == needs[1] - needs[0]


@pytest.mark.slow
def test_a_card_has_no_such_kernels(traces: Path) -> None:
    config = _config(traces, "trainer.precision=bf16-mixed")
    alone, pack = (_bytes([config] * members, CARD) for members in (1, 3))
    curve, card = curve_of(config), on_card()
    needs = [curve.needs(4 * n, [optimizer("adamw")] * n, card).total for n in (1, 3)]
    assert pack - alone == needs[1] - needs[0]


@pytest.mark.slow
def test_members_of_several_ranks_share_the_base(traces: Path) -> None:
    small, large = (_config(traces, f"lora.rank={rank}") for rank in (4, 16))
    one, other = curve_of(small), curve_of(large)
    rows = (one.row_of(2) + other.row_of(2)) * 4 + max(one.fixed, other.fixed)
    assert one.row_of(2) > one.row, "filters are picked for each row"
    copies = min(one.copy, other.copy)
    stays = one.needs(0, [optimizer("adamw")]).stays + other.needs(0, [optimizer("adamw")]).stays
    card = on_card()
    beside = card.context + card.workspaces + int(rows * card.kept_share)
    assert _bytes([small, large], CARD) == one.weights + stays + copies + rows + beside
    assert together([one, one], [small, small], card) == one.needs(8, [optimizer("adamw")] * 2, card)


# Of Stable Diffusion 1.5 in bf16 at 512 px, rank 8 on attention, without checkpointing.
_CURVE = Curve(
    weights=1719110144,
    floats=1594368,
    adapter_bytes=4,
    copy=3188736,
    fixed=2869760,
    row=826373632,
    ops=2948,
    flops_fixed=0,
    flops_row=1780811311104,
    forward=Alive(tensors=74730496, inside=74730496),
    guided=Alive(tensors=143475200, inside=143475200),
)
_PICTURES = Pictures(
    encoders=826861056,
    encoding=Alive(tensors=671088640, inside=805306368),
    decoder=334618112,
    decoding=Alive(tensors=805437440, inside=1275199488),
)


def _stable_diffusion(cache: Path) -> JobConfig:
    """A job whose traces are kept in ``cache``."""
    usual = ("model=sd15", "data.resolution=512", "trainer.precision=bf16-mixed", "data.batch_size=1")
    usual += ("trainer.gradient_checkpointing=true",)  # as at the ladder's end
    config = compose_job(f"data.cache_dir={cache}", *usual)
    sizes = open_sizes(config.model)
    for path, traced in ((predict._path(config, sizes), _CURVE), (between._path(config, sizes), _PICTURES)):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(traced)))
    return config


@pytest.mark.slow
def test_what_drawing_took_in_earlier_runs_makes_no_three_packs_of_one(tmp_path: Path) -> None:
    """A card of 12 GiB; of Stable Diffusion 1.5 in bf16, whose steps of a row took 2.40 GiB, drawing took 4.96."""
    config = _stable_diffusion(tmp_path)
    jobs = {seed: replace(config, seed=seed) for seed in range(8)}
    card = Slot(name="cuda-0", device="cuda:0", model="A card", memory=int(11.5 * 2**30 * 0.8))
    line = {"t": 0, "base": "sd15", "device": "A card", "predicted": 2576980377, "measured": 5325759447}
    (tmp_path / "memory/errors.jsonl").write_text(f"{json.dumps(line)}\n" * 3)
    budget = budget_for(TracedForecast(), [card], list(jobs.values()), shown=False)
    assert len(make_plan(jobs, fits=budget.fits, clock=budget.clock()).packs) == 1


def test_a_card_that_steps_fit_may_be_too_small_to_draw(tmp_path: Path) -> None:
    config = _stable_diffusion(tmp_path)
    card, forecast = on_card(), TracedForecast()
    stays = _CURVE.weights + 4 * 4 * _CURVE.floats
    beside = card.context + card.workspaces + int(_PICTURES.decoding.inside * card.kept_share)
    bank = 2 * _CURVE.floats  # in 16 bits
    drawing = stays + bank + _PICTURES.decoder + _PICTURES.decoding.inside + beside
    step = _CURVE.needs(1, [config.optimizer], card).total
    assert forecast.peak_of([config], CARD, trace=False) == Peak(step, drawing, "drawing")
    without = replace(config, sample=replace(config.sample, enabled=False))
    steps = forecast.peak_of([without], CARD, trace=False)
    assert steps is not None
    assert (steps.size, steps.doing) == (step, "step")
    refused = replace(CARD, memory=int(drawing / 1.16))
    assert step < (refused.memory or 0)
    budget = Budget(forecast=forecast, slots=(refused,), trace=False)
    assert not budget.fits([config])
    with pytest.raises(SweepError, match=f"(?s){WHILE['drawing']}.*{NO_DRAWING}"):
        refuse_hopeless({0: config}, budget, Settings())
    refuse_hopeless({0: without}, budget, Settings())


def test_what_steps_took_beyond_their_prediction_is_not_expected_of_drawing(tmp_path: Path) -> None:
    config = _stable_diffusion(tmp_path)
    before = TracedForecast().peak_of([config], CARD, trace=False)
    step = _CURVE.needs(1, [config.optimizer], on_card())
    for factor, doing in ((1.1, "drawing"), (1.5, "step")):
        for _ in range(3):
            measured = int(step.allocated * factor)
            note_error([config], 1, measured=measured, beside=0, device="A card")
        after = TracedForecast().peak_of([config], CARD, trace=False)
        assert after is not None
        assert after.doing == doing
        assert before is not None
        assert after.other == before.other
        assert after.step > before.step
        (tmp_path / "memory/errors.jsonl").unlink()
    assert TracedForecast().peak_of([config], CARD, trace=False) == before


def test_nothing_is_known_of_a_kind_whose_pictures_are_not(tmp_path: Path) -> None:
    config = _stable_diffusion(tmp_path)
    between._path(config, open_sizes(config.model)).unlink()
    assert TracedForecast().peak_of([config], CARD, trace=False) is None
