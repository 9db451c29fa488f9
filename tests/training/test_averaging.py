"""The mean of a member's last adapters: what it is, and that it changes nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lora_foundry.lora.formats.adapter import LoraWeights
from lora_foundry.lora.formats.read import read_adapter
from lora_foundry.training.averaging import side_by_side
from lora_foundry.wire.events import JudgedEvent, MetricsEvent, StateEvent, TagsEvent
from tests.training.world import Spec, train

WORDS = ("trainer.max_steps=5", "trainer.save_every=2", "optimizer.lr=0.1", "scheduler=constant")


def _update(weights: LoraWeights) -> torch.Tensor:
    """``[out, in]``, or of a convolution ``[out, in kh kw]``."""
    return weights.scale * weights.up.double().flatten(1) @ weights.down.double().flatten(1)


@pytest.mark.parametrize("shape", [(5,), (5, 3, 3)])
def test_updates_side_by_side_are_their_mean(shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    ones = [1] * (len(shape) - 1)
    updates = [
        LoraWeights(
            down=torch.randn(2, *shape, generator=draw), up=torch.randn(7, 2, *ones, generator=draw), alpha=alpha
        )
        for alpha in (1.0, 2.0, 8.0)
    ]
    mean = torch.stack([_update(one) for one in updates]).mean(dim=0)
    assert torch.allclose(_update(side_by_side(updates)), mean, atol=1e-6)


@pytest.mark.slow
def test_the_mean_is_the_best_of_its_rank_and_what_was_trained_stays_as_it_was(tmp_path: Path) -> None:
    mate = Spec("mate", ("seed=3", "trainer.max_steps=5"))
    averaged = train([Spec("x", (*WORDS, "trainer.average=3")), mate], tmp_path / "a")
    plain = train([Spec("x", WORDS), mate], tmp_path / "b")
    for name in ("x", "mate"):
        for key, value in averaged.weights(name).items():
            assert torch.equal(value, plain.weights(name)[key])
    folder = tmp_path / "a" / "x" / "adapter"
    last = (folder / "x.safetensors", *(folder / "steps" / f"x-step00000{step}.safetensors" for step in (2, 4)))
    adapters = [read_adapter(file).unet for file in last]
    mean = read_adapter(folder / "average" / "x-step000005-average.safetensors").unet
    assert mean.keys() == adapters[0].keys()
    for layer, weights in mean.items():
        whole = torch.stack([_update(adapter[layer]) for adapter in adapters]).mean(dim=0)
        left, values, right = torch.linalg.svd(whole, full_matrices=False)
        best = (left[:, :4] * values[:4]) @ right[:4]
        assert weights.rank == 4
        assert float((_update(weights) - best).norm() / best.norm()) < 5e-3, layer  # files are fp16


@pytest.mark.slow
def test_the_mean_is_scored_named_and_may_be_the_best(tmp_path: Path) -> None:
    """At this rate the adapter swings about where its mean is."""
    trained = train([Spec("x", (*WORDS, "trainer.average=4", "trainer.max_steps=9", "optimizer.lr=0.5"))], tmp_path)
    end = next(e for e in trained.events if isinstance(e, StateEvent) and e.state == "FINISHED").summary
    assert end is not None
    told = [e for e in trained.events if isinstance(e, MetricsEvent) and "val/loss_rel_average" in e.values]
    assert [e.values["val/loss_rel_average"] for e in told] == [end.average_val_loss_rel]
    assert (end.averaged, end.average_file) == (4, "x/adapter/average/x-step000009-average.safetensors")
    assert end.average_val_loss_rel is not None
    assert end.val_loss_rel is not None
    assert end.average_val_loss_rel < end.val_loss_rel
    assert (end.best_file, end.compared) == (end.average_file, end.average_val_loss_rel)
    judged = [e.by_item.mean for e in trained.events if isinstance(e, JudgedEvent)]
    assert judged[-2:] == pytest.approx([end.average_val_loss_rel, end.val_loss_rel], rel=1e-8)
    assert judged[-3] == judged[-1]
    mark = json.loads((tmp_path / "x" / "adapter" / "best.json").read_text())
    assert (mark["file"], mark["averaged"]) == ("average/x-step000009-average.safetensors", 4)


@pytest.mark.slow
def test_what_cannot_be_averaged_is_told_and_the_job_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_foundry.training import averaging

    def gone(file: Path) -> None:
        raise OSError(2, "No such file or directory", str(file))

    monkeypatch.setattr(averaging, "read_adapter", gone)
    trained = train([Spec("x", (*WORDS, "trainer.average=2"))], tmp_path)
    assert trained.states(0)[-1] == "FINISHED"
    (told,) = [e.values for e in trained.events if isinstance(e, TagsEvent) and "warning.average" in e.values]
    assert "x-step000004.safetensors" in str(told["warning.average"])
