"""What a member that fails leaves behind, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lora_foundry.data.order import SampleOrder
from lora_foundry.lora.formats.read import read_adapter
from lora_foundry.training.callbacks import exporting
from lora_foundry.training.export import Outputs, live_outputs
from lora_foundry.training.member import Member
from lora_foundry.training.pack import Pack
from lora_foundry.wire.events import ArtifactEvent, StateEvent
from tests.training.world import Spec, Trained, make_denoiser, train

ONE_BY_ONE = ("data.batch_size=1", "data.flip=false")


def _failing_at(step: int, *words: str) -> Spec:
    """A member whose step of that number meets a latent that is not finite."""
    image = SampleOrder(seed=0, n_images=6).draw(step - 1).image
    return Spec("sick", (*ONE_BY_ONE, *words), poisoned=image)


def _end(trained: Trained, job: int = 0) -> StateEvent:
    return [e for e in trained.events if isinstance(e, StateEvent) and e.job == job][-1]


@pytest.mark.slow
def test_its_last_good_weights_are_a_file_that_its_error_names(tmp_path: Path) -> None:
    trained = train([_failing_at(4), Spec("well")], tmp_path)
    end = _end(trained)
    assert end.state == "FAILED"
    said = "sick/adapter/steps/sick-step000003.safetensors"
    assert end.error.endswith(f"; its last good weights, of step 3, are in {said}")
    read = read_adapter(tmp_path / said, list(make_denoiser().layers))
    live = trained.weights("sick")
    assert {f"{name}.A" for name in read.unet} == {key for key in live if key.endswith(".A")}
    for name, weights in read.unet.items():
        assert (weights.down.double() - live[f"{name}.A"]).norm() < 1e-3 * live[f"{name}.A"].norm()
    told = next(e for e in trained.events if isinstance(e, ArtifactEvent) and e.job == 0)
    assert (told.path, told.folder) == (said, "adapter/steps")
    assert _end(trained, 1).state == "FINISHED"
    assert not (tmp_path / "sick" / "adapter" / "sick.safetensors").exists(), "it did not finish"


@pytest.mark.slow
def test_one_that_never_made_a_step_leaves_none_and_its_rate_is_not_blamed(tmp_path: Path) -> None:
    end = _end(train([_failing_at(1)], tmp_path))
    assert "at step 1, allowed are finite numbers; no update was made before" in end.error
    assert "optimizer.lr" not in end.error
    assert "last good" not in end.error
    assert not (tmp_path / "sick" / "adapter").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "advice"),
    [
        ("null", "lower optimizer.lr (now 0.003) or set trainer.max_grad_norm (now null), for instance to 1"),
        ("0.5", "lower optimizer.lr (now 0.003) or trainer.max_grad_norm (now 0.5)"),
    ],
)
def test_the_advice_names_what_is_set(limit: str, advice: str, tmp_path: Path) -> None:
    spec = _failing_at(3, f"trainer.max_grad_norm={limit}", "optimizer.lr=0.003")
    assert advice in _end(train([spec], tmp_path)).error


@pytest.mark.slow
def test_weights_with_which_the_base_gives_no_numbers_are_no_good_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(pack: Pack, members: Sequence[Member]) -> dict[str, Outputs]:
        return {name: replace(one, exact=one.exact * math.nan) for name, one in live_outputs(pack, members).items()}

    monkeypatch.setattr(exporting, "live_outputs", broken)
    error = _end(train([_failing_at(2)], tmp_path)).error
    assert error.endswith("; its weights of step 1 give nothing finite either")
    assert not (tmp_path / "sick" / "adapter").exists()


@pytest.mark.slow
def test_weights_that_fit_no_file_are_said_to(tmp_path: Path) -> None:
    """At a rate of 1e9 the first update is finite, and beyond what fp16 holds."""
    huge = ("optimizer.lr=1e9", "trainer.max_grad_norm=null", "scheduler.warmup_steps=0")
    error = _end(train([_failing_at(2, *huge)], tmp_path)).error
    assert "its weights of step 1 were not exported: " in error
    assert "last good" not in error
    assert (tmp_path / "sick" / "checkpoints" / "step-00000001.safetensors").exists()
