"""Kinds of adapter: what a bank holds is what a layer says, and the way into a file leads back."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from peft import LoraConfig as PeftLora
from torch import Tensor, nn

from lora_foundry.config.choices import ADAPTER_KINDS
from lora_foundry.config.compose import compose_job
from lora_foundry.config.kinds import shared_text
from lora_foundry.lora import inject as injecting
from lora_foundry.lora.bank import AdapterBank, by_layer
from lora_foundry.lora.inject import AdapterSpec, inject
from lora_foundry.lora.kinds import kind_choice
from lora_foundry.lora.kinds.lora.layers import PackedLinear
from lora_foundry.lora.rows import RowPlan
from tests.lora.small import Layers, make_bank, spec


class _Scaled(PackedLinear):
    """LoRA with a factor for each output, which has no rank: what DoRA's magnitudes would be to a bank."""

    def shapes(self, rank: int) -> dict[str, tuple[int, ...]]:
        return {"m": (self.out_features,), **super().shapes(rank)}

    def values(self, adapter: str) -> dict[str, Tensor]:
        return {"m": torch.ones(self.out_features), **super().values(adapter)}

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        now = self.stack.forward() if self.stack else None
        base = self.base_layer(x)
        if now is None:
            return base
        return base + (super().forward(x) - base) * now.parts[self.stack.name]["m"][now.plan.block_of_row(x.device)]


class _ScaledKind(type(kind_choice("lora"))):  # type: ignore[misc]
    def peft(self, spec: AdapterSpec) -> PeftLora:
        config = PeftLora(r=spec.rank, lora_alpha=spec.rank, target_modules=list(spec.targets), init_lora_weights=True)
        config._register_custom_module({nn.Linear: _Scaled})
        return config


def test_a_bank_holds_whatever_parts_a_layer_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some as long as the rank, some not: unpadded, trained and kept when others leave."""
    monkeypatch.setattr(injecting, "kind_choice", lambda _: _ScaledKind())
    base = Layers().double().requires_grad_(requires_grad=False)
    for name, rank in (("a", 2), ("b", 3)):
        inject(base, name, spec(rank, "linear", seed=rank))
    bank = AdapterBank(base, ["a", "b"], dtype=torch.float64, device=torch.device("cpu"))
    shapes = {key: tuple(value.shape) for key, value in bank.unpack(bank.weights[0], "a").items()}
    assert shapes == {"linear.m": (10,), "linear.A": (2, 6), "linear.B": (2, 10)}
    assert bank.weights.shape == (2, 10 + 3 * 6 + 3 * 10)
    bank.unpack(bank.weights[0], "a")["linear.B"].fill_(0.5)
    bank.unpack(bank.weights[0], "a")["linear.m"].fill_(3.0)
    x = torch.randn(2, 6, dtype=torch.float64)
    with bank.rows(RowPlan(places=(0, 1), counts=(1, 1))):
        got = base.linear(x)
        got.sum().backward()
    state = bank.state("a")
    update = x[0] @ state["linear.A"].T @ state["linear.B"]
    torch.testing.assert_close(got[0], base.linear.base_layer(x[0]) + 3.0 * update)
    torch.testing.assert_close(bank.unpack(bank.gradients[0], "a")["linear.m"], update)
    bank.leave(["b"])
    alone = bank.relaid(["a"])
    assert all(torch.equal(value, state[key]) for key, value in alone.state("a").items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTER_KINDS.names())
def test_what_is_written_begins_as_it_was(name: str) -> None:
    """At the same rank and scale, for a linear layer and for convolutions."""
    lora = dataclasses.replace(compose_job("lora.rank=3", "lora.alpha=6").lora, kind=name)
    bank = make_bank({"a": dataclasses.replace(spec(3, alpha=6.0), kind=name)})
    for layer, parts in by_layer(bank.state("a")).items():
        begun = kind_choice(name).begun(kind_choice(name).written(parts, lora), parts, lora)
        assert begun.parts.keys() == parts.keys(), layer
        for part, value in begun.parts.items():
            torch.testing.assert_close(value, parts[part])


@pytest.mark.slow
def test_members_of_one_pack_are_of_one_kind() -> None:
    job = compose_job()
    other = dataclasses.replace(job, lora=dataclasses.replace(job.lora, kind="another"))
    assert shared_text(job) != shared_text(other)
