"""What the plugin tells the plan of packs' memory, against the memory room's own answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_foundry.config import JobConfig
from lora_foundry.config.compose import compose_job
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.memory.predict import GPU_CONTEXT, curve_of
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
    curve = curve_of(config)
    assert (
        pack - alone == curve.needs(12, [optimizer("adamw")] * 3).tensors - curve.needs(4, [optimizer("adamw")]).tensors
    )


@pytest.mark.slow
def test_members_of_several_ranks_share_the_base(traces: Path) -> None:
    small, large = (_config(traces, f"lora.rank={rank}") for rank in (4, 16))
    one, other = curve_of(small), curve_of(large)
    rows = (one.row + other.row) * 4 + max(one.fixed, other.fixed)
    stays = one.needs(0, [optimizer("adamw")]).stays + other.needs(0, [optimizer("adamw")]).stays
    assert _bytes([small, large], CARD) == one.weights + stays + rows + GPU_CONTEXT
