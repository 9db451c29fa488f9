"""Whole updates against an oracle that shares no code: loss, gradient, clipping, rate and weights of six steps in fp64.

The oracle's clipping divides by the norm plus 1e-6 (torch), which is all that may differ: rounding alone stays below
1e-11 of an update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lora_foundry.training.pack import Pack
from lora_foundry.training.pack_step import run_step
from tests.training.oracle import Oracle, Taken, reference_rates
from tests.training.world import Spec, make_member, make_task

STEPS = 6
LIMIT = 1e-9  # of loss, gradient norm and gradient; ten times that of the update, which divides by small numbers
SHORT = (f"trainer.max_steps={STEPS}", "trainer.max_grad_norm=null")
SOLO: dict[str, tuple[str, ...]] = {
    "plain": (),
    "cosine to a floor": ("scheduler.min_lr_ratio=0.1",),
    "linear": ("scheduler=linear", "scheduler.min_lr_ratio=0.2", "scheduler.warmup_steps=4"),
    "constant": ("scheduler=constant",),
    "no warm-up": ("scheduler.warmup_steps=0",),
    "accumulation": ("trainer.accumulate=3", "data.batch_size=1"),
    "adamw's settings": ("optimizer.betas=[0.7,0.9]", "optimizer.weight_decay=0.4", "optimizer.eps=1e-3"),
    "alpha": ("lora.alpha=2.5x", "lora.rank=3"),
    "rslora": ("lora.use_rslora=true", "lora.rank=5"),
    "convolutions": ("lora.target_modules=all", "lora.rank=2"),
    "gaussian": ("lora.init=gaussian",),
    "dropout": ("lora.dropout=0.3",),
    "caption dropout": ("data.caption_dropout=0.5",),
    "noise offset": ("objective.noise_offset=0.2",),
    "unmirrored": ("data.flip=false", "seed=9"),
    "adafactor": ("optimizer=adafactor", "optimizer.weight_decay=0.1"),
    "prodigy": ("optimizer=prodigy", "optimizer.weight_decay=0.1", "optimizer.betas=[0.8,0.95]"),
}
TRIPLE = (
    Spec("a", (*SHORT, "lora.rank=4", "lora.dropout=0.2", "trainer.accumulate=2")),
    Spec("b", (*SHORT, "lora.rank=7", "lora.target_modules=[to_q,to_v]", "data.batch_size=3", "seed=4"), n_images=5),
    Spec("c", (*SHORT, "optimizer=prodigy", "lora.rank=1", "scheduler=linear", "lora.use_rslora=true")),
)


class _Watched:
    """A pack whose members are compared with their oracles at each of their optimizer steps."""

    def __init__(self, specs: tuple[Spec, ...], root: Path, predicts: str) -> None:
        members = [make_member(spec, root, job) for job, spec in enumerate(specs)]
        self.pack = Pack(make_task(predicts=predicts), members)
        rates = {m.name: reference_rates(m.config, m.total_steps) for m in members}
        self.oracles = {m.name: Oracle(m, predicts, rates[m.name]) for m in members}
        self.clipped: dict[str, dict[str, Tensor]] = {}
        steps, bank = self.pack.optimizer.steps, self.pack.bank

        def looked_at(rates: Mapping[str, float]) -> Iterator[set[str]]:
            for name in rates:
                self.clipped[name] = _copied(bank.unpack(bank.gradients[bank.place(name)], name))
            yield from steps(rates)

        self.pack.optimizer.steps = looked_at  # type: ignore[method-assign]

    def run(self) -> Iterator[tuple[Any, Taken]]:
        """Each optimizer step of each member, with the oracle's."""
        while self.pack.active:
            for member in run_step(self.pack).stepped:
                yield member, self.oracles[member.name].step()


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return float(torch.stack([value.double().norm() for value in tensors.values()]).norm())


def _apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The norm of the difference."""
    assert one.keys() == other.keys()
    return _norm({name: one[name] - other[name] for name in one})


def _hold(specs: tuple[Spec, ...], root: Path, predicts: str = "v_prediction", *, limit: float = LIMIT) -> None:
    """Every step of every member is the oracle's."""
    watched = _Watched(specs, root, predicts)
    begun = {name: oracle.weights() for name, oracle in watched.oracles.items()}
    for name, weights in begun.items():
        assert _apart(watched.pack.bank.state(name), weights) == 0
    taken = dict.fromkeys(begun, 0)
    for member, wanted in watched.run():
        clipped_at = member.config.trainer.max_grad_norm
        by_torch = 0.0 if clipped_at is None else 1.01e-6 / wanted.grad_norm  # what it adds to the norm
        allowed = limit + by_torch
        assert member.loss == pytest.approx(wanted.loss, rel=allowed)
        assert member.grad_norm == pytest.approx(wanted.grad_norm, rel=allowed)
        assert member.rate == pytest.approx(wanted.rate, rel=LIMIT, abs=1e-18)
        assert _apart(watched.clipped[member.name], wanted.clipped) < allowed * _norm(wanted.clipped)
        moved = _apart(wanted.weights, begun[member.name])
        assert moved > 0
        assert _apart(watched.pack.bank.state(member.name), wanted.weights) < 10 * allowed * moved
        taken[member.name] += 1
    assert set(taken.values()) == {STEPS}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLO)
def test_a_solo_members_updates(name: str, tmp_path: Path) -> None:
    _hold((Spec("a", (*SHORT, *SOLO[name])),), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_updates_under_either_prediction_with_min_snr_and_without(predicts: str, tmp_path: Path) -> None:
    _hold((Spec("a", SHORT),), tmp_path, predicts)
    weighted = Spec("b", (*SHORT, "objective=min-snr", "objective.snr_gamma=3"))
    _hold((weighted,), tmp_path, predicts, limit=1e-6)  # diffusers' ratios are of fp32 roots


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "prodigy"])
def test_clipping_is_torchs(optimizer: str, tmp_path: Path) -> None:
    _hold((Spec("a", (*SHORT, f"optimizer={optimizer}", "trainer.max_grad_norm=0.01")),), tmp_path)


@pytest.mark.slow
def test_a_gradient_below_the_limit_is_left_alone(tmp_path: Path) -> None:
    _hold((Spec("a", (*SHORT, "trainer.max_grad_norm=1000")),), tmp_path)


@pytest.mark.slow
def test_the_updates_of_three_that_differ(tmp_path: Path) -> None:
    """Ranks are padded, one accumulates, one has fewer targets, one another optimizer."""
    _hold(TRIPLE, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 3])
def test_the_updates_of_a_pack_that_takes_few_rows_a_forward(rows: int, tmp_path: Path) -> None:
    watched = _Watched(TRIPLE, tmp_path, "v_prediction")
    watched.pack.rows = rows
    for member, wanted in watched.run():
        assert member.loss == pytest.approx(wanted.loss, rel=LIMIT)
        assert _apart(watched.clipped[member.name], wanted.clipped) < LIMIT * _norm(wanted.clipped)
