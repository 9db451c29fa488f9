"""The rate of each step against ``LambdaLR`` under the lambdas of diffusers and transformers."""

from __future__ import annotations

import pytest

from lora_foundry.config.compose import compose_job
from lora_foundry.training.schedules import learning_rate
from tests.training.oracle import reference_rates

LENGTHS = [(1, 0), (2, 1), (7, 0), (7, 1), (7, 6), (40, 10), (400, 10)]


@pytest.mark.slow
@pytest.mark.parametrize("low", [0.0, 0.25])
@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(("total", "warmup"), LENGTHS)
def test_every_rate_is_the_references(name: str, total: int, warmup: int, low: float) -> None:
    config = compose_job(
        f"scheduler={name}",
        f"scheduler.warmup_steps={warmup}",
        f"scheduler.min_lr_ratio={low}",
        f"trainer.max_steps={total}",
        "optimizer.lr=0.003",
    )
    got = [learning_rate(config.optimizer, config.scheduler, step=step, total=total) for step in range(total)]
    assert got == pytest.approx(reference_rates(config, total), rel=1e-12, abs=1e-17)


@pytest.mark.slow
def test_beyond_the_end_the_rate_stays_where_it_ended() -> None:
    config = compose_job("scheduler=cosine", "scheduler.min_lr_ratio=0.1", "optimizer.lr=2.0")
    rates = [learning_rate(config.optimizer, config.scheduler, step=step, total=20) for step in (20, 21, 90)]
    assert rates == pytest.approx([0.2] * 3)
    short = compose_job("scheduler=linear", "scheduler.warmup_steps=1", "optimizer.lr=1.0")
    assert [learning_rate(short.optimizer, short.scheduler, step=step, total=2) for step in (1, 2)] == [1.0, 0.0]


@pytest.mark.slow
def test_a_warmup_beyond_the_end_climbs_to_it() -> None:
    config = compose_job("scheduler=constant", "scheduler.warmup_steps=10", "optimizer.lr=1.0")
    rates = [learning_rate(config.optimizer, config.scheduler, step=step, total=3) for step in range(3)]
    assert rates == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.slow
def test_the_default_warmup_shrinks_with_the_training() -> None:
    config = compose_job("scheduler=constant", "optimizer.lr=1.0")
    rates = [learning_rate(config.optimizer, config.scheduler, step=step, total=30) for step in range(4)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
