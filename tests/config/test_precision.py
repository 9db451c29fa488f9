"""What ``trainer.precision=auto`` stands for, by what a device computes by itself."""

from __future__ import annotations

from typing import Any

import pytest

from lora_foundry.config import parse
from lora_foundry.config.compose import compose_job
from lora_foundry.config.precision import chosen, emulated, kept, of_all, of_cuda, of_rocm, possible, with_precision
from lora_foundry.config.schema import JobConfig, Precision
from tests.launch.jobs import job

Raw = dict[str, Any]
AUTO = job(trainer__precision="auto")


@pytest.mark.parametrize(
    ("card", "capability", "precision"),
    [
        ("GTX 1080 Ti", (6, 1), "16-mixed"),
        ("V100", (7, 0), "16-mixed"),
        ("T4 and RTX 2080", (7, 5), "16-mixed"),
        ("A100", (8, 0), "bf16-mixed"),
        ("RTX 3090", (8, 6), "bf16-mixed"),
        ("Orin", (8, 7), "bf16-mixed"),
        ("RTX 4090", (8, 9), "bf16-mixed"),
        ("H100", (9, 0), "bf16-mixed"),
        ("RTX 5090", (12, 0), "bf16-mixed"),
        ("one that does not tell", None, "16-mixed"),
    ],
)
def test_a_card_is_given_what_it_computes_by_itself(
    card: str, capability: tuple[int, int] | None, precision: Precision
) -> None:
    assert of_cuda(capability) == precision, card


@pytest.mark.parametrize(
    ("architecture", "precision"),
    [
        ("gfx906:sramecc+:xnack-", "16-mixed"),
        ("gfx908:sramecc+:xnack-", "bf16-mixed"),
        ("gfx90a:sramecc+:xnack-", "bf16-mixed"),
        ("gfx942:sramecc+:xnack-", "bf16-mixed"),
        ("gfx1030", "16-mixed"),
        ("gfx1100", "bf16-mixed"),
        ("gfx1201", "bf16-mixed"),
        ("", "16-mixed"),
    ],
)
def test_so_is_a_card_of_amds(architecture: str, precision: Precision) -> None:
    assert of_rocm(architecture) == precision


def test_of_several_devices_the_least_able_decides() -> None:
    assert of_all(["bf16-mixed", "bf16-mixed"]) == "bf16-mixed"
    assert of_all(["bf16-mixed", "16-mixed"]) == "16-mixed"
    assert of_all(["bf16-mixed", "16-mixed", "32-true"]) == "32-true"


def test_what_a_job_names_is_kept() -> None:
    for precision in ("64-true", "32-true", "bf16-true", "16-mixed"):
        config = job(trainer__precision=precision)
        assert with_precision(config, "bf16-mixed") is config
        assert possible(config) == [config]


def test_auto_is_what_suits_the_device() -> None:
    def on(here: Precision, config: JobConfig = AUTO) -> str:
        return with_precision(config, here).trainer.precision

    assert [on("bf16-mixed"), on("16-mixed"), on("32-true")] == ["bf16-mixed", "16-mixed", "32-true"]
    assert on("bf16-mixed", job(trainer__precision="auto", trainer__accelerator="cpu")) == "32-true"
    assert {one.trainer.precision for one in possible(AUTO)} == {"32-true", "16-mixed", "bf16-mixed"}


@pytest.mark.slow
def test_auto_is_the_default_and_composing_without_a_device_is_for_the_cpu() -> None:
    assert compose_job().trainer.precision == "32-true"
    assert compose_job("trainer.precision=bf16-true").trainer.precision == "bf16-true"


@pytest.mark.slow
def test_16_true_is_nobodys_and_the_error_says_what_is(raw: Raw) -> None:
    assert parse(raw).trainer.precision == "auto"
    raw["trainer"]["precision"] = "16-true"
    with pytest.raises(ValueError, match=r"got '16-true'.*16-mixed"):
        parse(raw)


def test_what_is_said() -> None:
    assert emulated("bf16-mixed", "bf16-mixed") is None
    assert emulated("32-true", "16-mixed") is None
    assert "emulating it is slow; auto is 16-mixed here" in str(emulated("bf16-true", "16-mixed"))
    assert chosen("16-mixed").startswith("trainer.precision=auto is 16-mixed here")
    assert kept("bf16-mixed", "16-mixed") == (
        "goes on in bf16-mixed, in which it began; trainer.precision=auto is 16-mixed here"
    )
