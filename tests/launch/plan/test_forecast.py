"""What the plugin tells the plan of packs' memory, against the memory room's own answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from lora_foundry.config import JobConfig
from lora_foundry.config.compose import compose_job
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.plan.budget import budget_for
from lora_foundry.launch.plan.packing import make_plan
from lora_foundry.memory import predict
from lora_foundry.memory.libraries import on_card
from lora_foundry.memory.predict import Curve, curve_of, together
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
    told = TracedForecast().bytes_of(configs, slot, trace=True)
    assert told is not None
    return told


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


def test_what_drawing_took_in_earlier_runs_makes_no_three_packs_of_one(tmp_path: Path) -> None:
    """A card of 12 GiB; of Stable Diffusion 1.5 in bf16, whose steps of a row took 2.40 GiB, drawing took 4.96."""
    words = ("model=sd15", "data.resolution=512", "trainer.precision=bf16-mixed", "data.batch_size=1")
    jobs = {seed: compose_job(f"data.cache_dir={tmp_path}", *words, f"seed={seed}") for seed in range(8)}
    curve = Curve(
        weights=1719110144,
        floats=1594368,
        adapter_bytes=4,
        copy=3188736,
        fixed=2869760,
        row=826373632,
        ops=2948,
        flops_fixed=0,
        flops_row=1780811311104,
    )
    kept = predict._path(jobs[0], open_sizes(jobs[0].model))
    kept.parent.mkdir()
    kept.write_text(json.dumps(dataclasses.asdict(curve)))
    card = Slot(name="cuda-0", device="cuda:0", model="A card", memory=int(11.5 * 2**30 * 0.8))
    line = {"t": 0, "base": "sd15", "device": "A card", "predicted": 2576980377, "measured": 5325759447}
    (kept.parent / "errors.jsonl").write_text(f"{json.dumps(line)}\n" * 3)
    budget = budget_for(TracedForecast(), [card], list(jobs.values()), shown=False)
    assert len(make_plan(jobs, fits=budget.fits, clock=budget.clock()).packs) == 1
