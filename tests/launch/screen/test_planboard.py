"""A plan as people read it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console

from lora_foundry.config.doing import most_is_taken
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.plan.budget import GIB, Budget, Peak
from lora_foundry.launch.plan.clock import NoPace
from lora_foundry.launch.plan.packing import make_plan
from lora_foundry.launch.screen.planboard import print_plan
from tests.launch.jobs import job

CARD = Slot(name="cuda-0", device="cuda:0", model="A card", memory=6 * GIB)
FEWER_ROWS = "(takes fewer rows a forward)"


class ARowAGib(NoPace):
    """A GiB a row of a step, and five of drawing."""

    def peak_of(
        self,
        configs: Sequence[JobConfig],
        slot: Slot,  # noqa: ARG002
        *,
        trace: bool,  # noqa: ARG002
        corrected: bool = True,  # noqa: ARG002
    ) -> Peak | None:
        return Peak(GIB * sum(config.data.batch_size for config in configs), 5 * GIB, "drawing")


def _shown(jobs: dict[int, JobConfig], pack_size: int = 1) -> list[str]:
    budget = Budget(forecast=ARowAGib(), slots=(CARD,), trace=True)
    plan = make_plan(jobs, pack_size, fits=budget.fits, clock=budget.clock())
    screen = io.StringIO()
    print_plan(Console(file=screen, width=120), plan, jobs, {n: f"j{n}" for n in jobs}, budget, "guessed")
    return screen.getvalue().splitlines()


def test_packs_that_take_the_most_while_they_draw_are_named() -> None:
    jobs = {n: job(seed=n, data__batch_size=2) for n in range(6)}
    (line,) = [line for line in _shown(jobs) if most_is_taken("drawing") in line]
    assert line == f"GiB of pack-0, pack-1, pack-2, pack-3 and 2 more: {most_is_taken('drawing')}."


def test_nothing_is_said_where_steps_take_the_most() -> None:
    lines = _shown({0: job(data__batch_size=7)})
    assert not any(most_is_taken("drawing") in line for line in lines)
    assert any(FEWER_ROWS in line for line in lines), "7 GiB of 6"


def test_fewer_rows_a_forward_are_said_of_steps_alone() -> None:
    small = Slot(name="cuda-0", device="cuda:0", model="A card", memory=4 * GIB)
    budget = Budget(forecast=ARowAGib(), slots=(small,), trace=True)
    jobs = {0: job(data__batch_size=1)}
    plan, screen = make_plan(jobs, 1, clock=budget.clock()), io.StringIO()
    print_plan(Console(file=screen, width=120), plan, jobs, {0: "j0"}, budget, "guessed")
    assert "5.00" in screen.getvalue()
    assert FEWER_ROWS not in screen.getvalue()
