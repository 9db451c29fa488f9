"""One process answers for levels, noising, targets and weights, and every loss is made by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lora_foundry.objectives import (
    DiscreteDiffusion,
    NoiseProcess,
    PredictionType,
    add_noise,
    bands,
    denoised,
    min_snr_weight,
    mse_per_sample,
    prediction_target,
    snr,
    uniform_timestep,
)

ALPHAS = torch.linspace(0.999, 0.01, 100)
KINDS: tuple[PredictionType, ...] = ("epsilon", "v_prediction")


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(3, 2, 4, 4, generator=generator, dtype=dtype) for _ in range(2))
    return clean, noise, torch.tensor([3, 50, 99])


@pytest.mark.parametrize("kind", KINDS)
def test_a_discrete_process_is_made_of_the_papers_own_equations(kind: PredictionType) -> None:
    process: NoiseProcess = DiscreteDiffusion(ALPHAS, kind)
    clean, noise, levels = rows()
    assert torch.equal(process.noisy(clean, noise, levels), add_noise(clean, noise, levels, ALPHAS))
    assert torch.equal(process.target(clean, noise, levels), prediction_target(kind, clean, noise, levels, ALPHAS))
    assert torch.equal(process.weight(levels, 3.0), min_snr_weight(snr(ALPHAS, levels), 3.0, kind))
    assert (process.level(17), process.bands()) == (uniform_timestep(17, 100), bands(100))
    assert (process.sampler, process.predicts) == ("ddim", kind)


def test_levels_to_judge_by_stand_for_all_and_are_no_more_than_there_are() -> None:
    process = DiscreteDiffusion(ALPHAS, "epsilon")
    assert process.strata(2) == [25, 75]
    assert process.strata(1000) == list(range(100))


@pytest.mark.parametrize("kind", KINDS)
def test_who_predicts_the_target_has_no_loss_and_who_is_off_by_two_has_four(kind: PredictionType) -> None:
    process = DiscreteDiffusion(ALPHAS, kind)
    clean, noise, levels = rows()
    target = process.target(clean, noise, levels)

    def off_by(much: float) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda _noisy, _levels: target + much

    for much in (0.0, 2.0):
        losses = mse_per_sample(*denoised(process, off_by(much), clean, noise, levels, dtype=torch.float64))
        torch.testing.assert_close(losses, torch.full((3,), much**2, dtype=torch.float64))


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16])
def test_a_base_gets_its_own_type_and_the_levels_as_they_are_and_a_loss_is_wide(base: torch.dtype) -> None:
    process = DiscreteDiffusion(ALPHAS, "epsilon")
    clean, noise, levels = rows(torch.float32)
    given: list[tuple[Tensor, Tensor]] = []

    def denoise(noisy: Tensor, at: Tensor) -> Tensor:
        given.append((noisy, at))
        return noisy

    losses = mse_per_sample(*denoised(process, denoise, clean, noise, levels, dtype=base))
    ((noisy, at),) = given
    assert torch.equal(noisy, add_noise(clean, noise, levels, ALPHAS).to(base))
    assert torch.equal(at, levels)
    assert losses.dtype == torch.float32
