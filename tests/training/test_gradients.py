"""The equality contract at its second and third depth, and a step against PEFT's own layers."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
from peft import inject_adapter_in_model
from peft.tuners.lora.layer import LoraLayer

from lora_foundry.lora.kinds import kind_choice
from lora_foundry.objectives.losses import mse_per_sample
from lora_foundry.objectives.noise import add_noise
from lora_foundry.objectives.targets import prediction_target
from lora_foundry.training.batch import PackBatch, assemble
from lora_foundry.training.pack import Pack, adapter_spec
from lora_foundry.training.pack_step import member_losses
from lora_foundry.wire.events import StateEvent
from tests.training.world import Spec, make_denoiser, make_member, make_task, train

# fp32 kernels round differently at other row counts; 4-8e-6 was seen, so 5e-5 is rounding and 1e-3 is a fault.
LIMIT = 5e-5
SPECS = [
    Spec("a", ("trainer.precision=32-true", "lora.target_modules=all", "lora.alpha=2x")),
    Spec("b", ("trainer.precision=32-true", "lora.rank=7", "data.batch_size=3", "seed=4", "lora.use_rslora=true")),
    Spec("c", ("trainer.precision=32-true", "lora.target_modules=attention", "data.batch_size=1", "lora.dropout=0.2")),
]


def _gradients(specs: list[Spec], root: Path) -> dict[str, dict[str, torch.Tensor]]:
    """One step's gradients with B made non-zero first: at B = 0 the gradient of A is zero and shows nothing."""
    pack = Pack(make_task(torch.float32), [make_member(spec, root) for spec in specs])
    for member in pack.members:
        _wake(pack, member.name)
    batch = assemble(pack.task, pack.members, pack.bank, dtype=torch.float32)
    with pack.bank.rows(batch.plan):
        member_losses(pack, batch).sum().backward()
    bank = pack.bank
    return {
        m.name: {k: v.clone() for k, v in bank.unpack(bank.gradients[bank.place(m.name)], m.name).items()}
        for m in pack.members
    }


def _wake(pack: Pack, name: str) -> None:
    draw = torch.Generator().manual_seed(9)
    for key, value in pack.bank.unpack(pack.bank.weights[pack.bank.place(name)], name).items():
        if key.endswith(".B"):
            value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float32) * 0.05)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.slow
def test_fp32_gradients_of_a_packed_member_are_its_own(tmp_path: Path) -> None:
    packed = _gradients(SPECS, tmp_path)
    for spec in SPECS:
        solo = _gradients([spec], tmp_path)[spec.name]
        assert min(float(v.norm()) for v in solo.values()) > 0
        worst = max(_apart(packed[spec.name][key], solo[key]) for key in solo)
        assert worst < LIMIT, (spec.name, worst)


@pytest.mark.slow
def test_gradients_are_those_of_pefts_own_layers(tmp_path: Path) -> None:
    """An oracle that shares no code with the packed forward: PEFT's layers and plain autograd."""
    for spec in SPECS[:2]:  # PEFT draws its dropout from the global generator, so c has no oracle
        packed = _gradients([spec], tmp_path)[spec.name]
        denoiser = make_denoiser(torch.float32)
        member = make_member(spec, tmp_path)
        config = kind_choice("lora").peft(adapter_spec(member, denoiser))
        config._custom_modules = None
        inject_adapter_in_model(config, denoiser.module, adapter_name="oracle")
        reference = Pack(make_task(torch.float32), [member])
        _wake(reference, spec.name)
        layers = {n: m for n, m in denoiser.module.named_modules() if isinstance(m, LoraLayer)}
        state = reference.bank.state(spec.name)
        for name, layer in layers.items():
            down, up = layer.lora_A["oracle"].weight, layer.lora_B["oracle"].weight
            down.data.copy_(state[f"{name}.A"])
            up.data.copy_(state[f"{name}.B"].transpose(0, 1).reshape(up.shape))
            down.requires_grad_(), up.requires_grad_()
        batch = assemble(reference.task, [member], reference.bank, dtype=torch.float32)
        _plain_loss(denoiser, batch).backward()
        for name, layer in layers.items():
            assert _apart(packed[f"{name}.A"], layer.lora_A["oracle"].weight.grad) < LIMIT
            up = layer.lora_B["oracle"].weight.grad
            assert _apart(packed[f"{name}.B"], up.flatten(1).transpose(0, 1)) < LIMIT


def _plain_loss(denoiser, batch: PackBatch) -> torch.Tensor:  # noqa: ANN001
    inputs, alphas = dict(batch.rows.inputs), denoiser.process.alphas_cumprod
    latents, noise, levels = (inputs.pop(name) for name in ("latents", "noise", "timesteps"))
    prediction = denoiser.denoise(add_noise(latents, noise, levels, alphas), levels, inputs)
    return mse_per_sample(prediction, prediction_target("v_prediction", latents, noise, levels, alphas)).mean()


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "steps"), [("32-true", 24), ("bf16-true", 24), ("16-mixed", 12)])
def test_packing_moves_the_final_loss_less_than_a_tenth_of_what_a_seed_does(
    precision: str, steps: int, tmp_path: Path
) -> None:
    """The third depth: in the precision people use, judged by the number people read."""

    def specs() -> list[Spec]:
        options = (
            f"trainer.precision={precision}",
            f"trainer.max_steps={steps}",
            "optimizer.lr=0.01",
            "validation.timesteps=8",
        )
        return [Spec(f"s{seed}", (*options, f"seed={seed}")) for seed in range(4)]

    def final(trained) -> dict[str, float]:  # noqa: ANN001
        ended = [e for e in trained.events if isinstance(e, StateEvent) and e.state == "FINISHED"]
        return {f"s{e.job}": e.summary.val_loss for e in ended}

    packed = final(train(specs(), tmp_path / "packed"))
    solo = {spec.name: final(train([spec], tmp_path / spec.name))["s0"] for spec in specs()}
    spread = statistics.stdev(solo.values())
    assert spread > 0
    assert max(abs(packed[name] - solo[name]) for name in solo) < spread / 10
