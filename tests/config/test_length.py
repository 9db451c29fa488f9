"""How long a job trains, counted exactly, and its warm-up."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest

from lora_foundry.config import ConfigError, JobConfig
from lora_foundry.config.compose import compose_job
from lora_foundry.config.digest import config_digest
from lora_foundry.config.length import too_long_a_warmup, total_steps, warmup_of
from lora_foundry.config.rules import warnings_about
from lora_foundry.wiring.forecast import TracedForecast


@cache
def _job() -> JobConfig:
    return compose_job()


def _epochs(epochs: float, batch: int = 1, accumulate: int = 1) -> JobConfig:
    trainer = replace(_job().trainer, epochs=epochs, max_steps=None, accumulate=accumulate)
    return replace(_job(), trainer=trainer, data=replace(_job().data, batch_size=batch))


@pytest.mark.slow
def test_epochs_are_the_number_that_was_written() -> None:
    assert 2.2 * 25 > 55  # which a ceiling made 56 of
    assert total_steps(_epochs(2.2), 25) == 55
    assert total_steps(_epochs(1e-05), 25) == 1
    assert total_steps(_epochs(0.1, batch=3, accumulate=2), 60) == 1
    assert total_steps(_epochs(0.1, batch=3), 61) == 3  # 6.1 samples


@pytest.mark.slow
def test_no_epochs_of_one_decimal_are_off_by_one() -> None:
    for tenths in range(1, 60):
        for batch in (1, 2, 3, 4, 7, 8):
            config = _epochs(tenths / 10, batch)
            for images in range(1, 200, 7):
                assert total_steps(config, images) == max(1, math.ceil(Fraction(tenths * images, 10 * batch)))


@pytest.mark.slow
def test_the_plan_counts_as_the_worker_does(tmp_path: Path) -> None:
    for i in range(25):
        (tmp_path / f"{i}.png").write_bytes(b"not looked at")
        (tmp_path / f"{i}.txt").write_text(f"thing {i}")
    folder = (f"data.path={tmp_path}", f"data.val_path={tmp_path}")
    config = compose_job(*folder, "data.batch_size=1", "trainer.epochs=2.2")
    assert TracedForecast().steps(config) == total_steps(config, 25) == 55


@pytest.mark.slow
@pytest.mark.parametrize(("total", "steps"), [(1, 0), (3, 0), (10, 1), (59, 5), (99, 9), (100, 10), (4000, 10)])
def test_a_warmup_that_nobody_asked_for_is_a_tenth_and_at_most_ten_steps(total: int, steps: int) -> None:
    assert warmup_of(compose_job().scheduler, total) == steps


@pytest.mark.slow
def test_a_warmup_that_was_asked_for_is_kept() -> None:
    assert warmup_of(compose_job("scheduler.warmup_steps=7").scheduler, 3) == 7
    assert warmup_of(compose_job("scheduler.warmup_steps=0").scheduler, 300) == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
def test_any_length_is_allowed_with_the_default_warmup(scheduler: str) -> None:
    config = compose_job("trainer.max_steps=3", f"scheduler={scheduler}")
    assert not warnings_about(config)


def test_a_warmup_as_long_as_the_steps_is_refused_where_a_decay_would_follow() -> None:
    with pytest.raises(ConfigError, match=r"got 3, allowed is less than trainer.max_steps=3"):
        compose_job("trainer.max_steps=3", "scheduler.warmup_steps=3")


@pytest.mark.slow
def test_with_a_constant_rate_it_is_warned_of() -> None:
    (warned,) = warnings_about(
        compose_job("trainer.max_steps=3", "scheduler=constant", "scheduler.warmup_steps=10", "optimizer.lr=0.001")
    )
    assert warned.topic == "warmup"
    assert warned.text.startswith("scheduler.warmup_steps=10 with 3 optimizer steps in all")
    assert "ends at 0.0003, below optimizer.lr=0.001" in warned.text
    assert too_long_a_warmup(compose_job("scheduler.warmup_steps=3"), 4) is None
    assert too_long_a_warmup(compose_job("scheduler.warmup_steps=1"), 1) is None


@pytest.mark.slow
def test_a_job_of_before_is_the_same_job() -> None:
    """Its stored configuration has the ten steps that were the default."""
    assert config_digest(compose_job()) == config_digest(compose_job("scheduler.warmup_steps=10"))
    assert config_digest(compose_job()) != config_digest(compose_job("scheduler.warmup_steps=9"))
    epochs = ("trainer.epochs=3",)
    assert config_digest(compose_job(*epochs)) != config_digest(compose_job(*epochs, "scheduler.warmup_steps=10"))
