"""Jobs that no slot has the memory for, with a forecast that can be followed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lora_foundry.config.doing import NO_DRAWING, WHILE
from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.plan.budget import GIB, Budget, NoForecast, Peak, budget_for
from lora_foundry.launch.plan.clock import NoPace
from lora_foundry.launch.plan.refusing import refuse_hopeless
from tests.launch.jobs import job

_NO_PICTURES = replace(job().sample, enabled=False)


class SquareGib(NoPace):
    """GiB: base 4 (2 in bf16), rank / 32, and for each row the square of px / 512 (half of that with checkpointing)."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []

    def peak_of(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool, corrected: bool = True) -> Peak | None:
        (config,) = configs
        assert not corrected, "what ran before is no reason to refuse"
        self.asked.append((config.data.batch_size, config.trainer.gradient_checkpointing))
        row = (config.data.resolution / 512) ** 2 * (0.5 if config.trainer.gradient_checkpointing else 1.0)
        if not trace and slot.model != "x":
            return None
        return Peak(int(GIB * (_stays(config) + config.data.batch_size * row)))


class DrawsMore(SquareGib):
    """Beside that, drawing takes three times the square of px / 512."""

    def peak_of(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool, corrected: bool = True) -> Peak | None:
        (config,) = configs
        step = super().peak_of(configs, slot, trace=trace, corrected=corrected)
        drawing = int(GIB * (_stays(config) + 3 * (config.data.resolution / 512) ** 2))
        return replace(step, other=drawing, beside="drawing") if step and config.sample.enabled else step


def _stays(config: JobConfig) -> float:
    return (2.0 if config.trainer.precision.startswith("bf16") else 4.0) + config.lora.rank / 32


def _card(gib: float | None, name: str = "cuda-0") -> Slot:
    return Slot(name=name, device="cuda:0", model="A card", memory=None if gib is None else int(gib * GIB))


def _job(**values: object) -> JobConfig:
    return job(data__resolution=512, data__batch_size=8, lora__rank=32, **values)


def _refused(
    config: JobConfig, *slots: Slot, settings: Settings | None = None, forecast: SquareGib | None = None
) -> list[str]:
    with pytest.raises(SweepError) as error:
        refuse_hopeless({0: config}, _budget(config, *slots, forecast=forecast), settings or Settings())
    (problem,) = error.value.problems
    return [" ".join(line.split()) for line in problem.splitlines()]


def _budget(config: JobConfig, *slots: Slot, forecast: SquareGib | None = None) -> Budget:
    return budget_for(forecast or SquareGib(), slots, [config], shown=False)


def test_what_is_needed_what_there_is_and_what_would_fit_are_told() -> None:
    config = _job()  # 4 + 1 + 0.5 at the last rung
    assert _refused(config, _card(4.6)) == [
        "job 0: tiny-sd at 512 px, rank 32, 32-true, takes 5.50 GiB when it trains alone, one row a forward, with "
        "gradient checkpointing, but may take 4.60 GiB (cuda-0, less hydra.launcher.reserve=0.2). What would fit:",
        "hydra.launcher.reserve=0.04 5.50 GiB",
        "trainer.precision=bf16-mixed 3.50 GiB",
        "lora.rank=1 4.53 GiB",
    ]


def test_a_lower_resolution_is_looked_for_from_above() -> None:
    config = job(data__resolution=1024, data__batch_size=1, lora__rank=1, trainer__precision="bf16-mixed")  # 2.03 + 2
    assert "data.resolution=768 3.16 GiB" in _refused(config, _card(3.4))
    assert "data.resolution=512 2.53 GiB" in _refused(config, _card(2.6))[1:]
    assert "data.resolution=256 2.16 GiB" in _refused(config, _card(2.2))[1:]


def test_several_together_where_none_is_enough() -> None:
    config = _job()
    assert _refused(config, _card(2.2))[1:] == [
        "trainer.precision=bf16-mixed data.resolution=128 lora.rank=1 2.06 GiB",
    ]
    (line,) = _refused(config, _card(1.0))
    assert line.endswith(
        "no lower precision, resolution or rank would fit either: take a smaller base or another device"
    )


def test_a_limit_of_the_users_is_named_and_the_one_that_would_do() -> None:
    first, *rows = _refused(_job(memory__limit_gib=3.0), _card(None))
    assert first.endswith("but may take 3.00 GiB (memory.limit_gib). What would fit:")
    assert rows[0] == "memory.limit_gib=5.6 5.50 GiB"
    assert not any("limit_gib" in row for row in _refused(_job(memory__limit_gib=3.0), _card(4.0))[1:]), "there is less"


def test_fewer_slots_would_do() -> None:
    rows = _refused(_job(), _card(3.0), settings=Settings(slots=2))
    assert rows[1].split() == ["hydra.launcher.slots=1", "5.50", "GiB"]


def test_one_slot_that_has_the_memory_is_enough() -> None:
    config = _job()
    refuse_hopeless({0: config}, _budget(config, _card(1.0), _card(6.0, "cuda-1")), Settings())
    assert "(cuda-1, less" in _refused(config, _card(1.0), _card(4.0, "cuda-1"))[0], "where least is missing"


def test_a_close_call_may_try() -> None:
    config = _job()
    refuse_hopeless({0: config}, _budget(config, _card(5.5 / 1.14)), Settings())
    _refused(config, _card(5.5 / 1.16))


def test_nothing_is_refused_where_nothing_is_known() -> None:
    config = _job()
    cpu = Slot(name="cpu", device="cpu", memory=GIB)
    refuse_hopeless({0: config}, _budget(config, cpu), Settings())  # a CPU: not traced, not kept
    refuse_hopeless({0: config}, _budget(config, replace(cpu, memory=None)), Settings())
    refuse_hopeless({0: config}, _budget(config, _card(None)), Settings())
    refuse_hopeless({0: config}, budget_for(NoForecast(), [_card(1.0)], [config], shown=False), Settings())
    _refused(config, replace(cpu, model="x"))  # kept


def test_what_fits_as_asked_is_not_looked_at_further() -> None:
    for gib, asked in (
        (14.0, [(8, False)]),
        (6.0, [(8, False), (1, False)]),
        (5.6, [(8, False), (1, False), (1, True)]),
    ):
        budget = _budget(_job(), _card(gib))
        refuse_hopeless({0: _job()}, budget, Settings())
        assert budget.forecast.asked == asked  # type: ignore[attr-defined]


def test_jobs_of_a_kind_are_told_together_and_the_others_beside_them() -> None:
    jobs = {number: _job(seed=number) for number in range(6)} | {6: _job(trainer__precision="bf16-mixed"), 7: _job()}
    with pytest.raises(SweepError) as error:
        refuse_hopeless(jobs, _budget(jobs[0], _card(4.6)), Settings())
    (problem,) = error.value.problems
    assert problem.startswith("jobs 0, 1, 2, 3 and 3 more: tiny-sd")
    many = {number: replace(_job(), lora=replace(_job().lora, rank=64 + number)) for number in range(5)}
    with pytest.raises(SweepError) as error:
        refuse_hopeless(many, _budget(many[0], _card(4.6)), Settings())
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "job 0",
        "job 1",
        "job 2",
        "and 2 more jobs that do not fit",
    ]


def test_a_lower_resolution_is_proposed_for_a_base_of_a_large_stride() -> None:
    """At 512 px Stable Diffusion 1.5 has stride 64: its latents are of 64 cells, its innermost maps of eight."""
    config = job(
        model__stride=64,
        data__resolution=512,
        data__batch_size=1,
        lora__rank=1,
        trainer__precision="bf16-mixed",  # 2.03 and 0.5
    )
    assert "data.resolution=256 2.16 GiB" in _refused(config, _card(2.19))[1:]


def test_a_job_that_the_worker_would_bring_down_to_what_fits_is_not_refused() -> None:
    """The ladder of a base of stride 64 ends at 64 px, not at the 512 that were asked for."""
    config = _job(model__stride=64, memory__may_change=("resolution",))
    refuse_hopeless({0: config}, _budget(config, _card(4.6)), Settings())


def test_a_job_that_has_the_memory_to_step_and_not_to_draw_is_refused_with_what_helps() -> None:
    config = _job()  # 4 + 1 + 0.5 at the last rung, 4 + 1 + 3 while it draws
    first, *rows = _refused(config, _card(6.0), forecast=DrawsMore())
    assert f"takes 8.00 GiB when it trains alone, {WHILE['drawing']}, but may take 6.00 GiB" in first
    assert f"{NO_DRAWING} 5.50 GiB" in rows
    assert "trainer.precision=bf16-mixed 6.00 GiB" in rows
    assert "data.resolution=256 5.75 GiB" in rows
    budget = _budget(config, _card(6.0), forecast=DrawsMore())
    refuse_hopeless({0: replace(config, sample=_NO_PICTURES)}, budget, Settings())


def test_drawing_is_not_proposed_away_where_steps_are_too_large() -> None:
    assert not any(NO_DRAWING in row for row in _refused(_job(), _card(4.6)))


def test_what_may_change_when_steps_run_out_saves_no_drawing() -> None:
    """Pictures are drawn before the first step, at the resolution that was asked for."""
    config = _job(memory__may_change=("resolution",))
    rows = _refused(config, _card(6.0), forecast=DrawsMore())
    assert WHILE["drawing"] in rows[0]
    assert not any(row.startswith("lora.rank=1") for row in rows), "4.03 + 3 is too much, too"
