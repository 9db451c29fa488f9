"""What a step leaves on its members, and what happens where memory runs out in it."""

from __future__ import annotations

import math
import traceback
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lora_foundry.config.compose import compose_job
from lora_foundry.data.order import SampleOrder
from lora_foundry.lora.inject import inject
from lora_foundry.lora.rows import RowPlan
from lora_foundry.memory.trace import META, attention_by, placeholder, run_once, zeros
from lora_foundry.models.opening import open_sizes
from lora_foundry.tasks.denoising import Denoising
from lora_foundry.tasks.protocol import StepRows
from lora_foundry.training import pack_step
from lora_foundry.training.batch import PackBatch, assemble
from lora_foundry.training.pack import Pack, adapter_spec, never
from lora_foundry.training.pack_step import member_losses, run_step
from lora_foundry.training.precision import DTYPES
from lora_foundry.training.shortage import OutOfMemoryError
from tests.lora.counted import Counted
from tests.training.oracle import scheduler_of
from tests.training.world import Spec, make_denoiser, make_member, make_task, plain_unet

LONG = ("trainer.max_steps=50",)


class Fails:
    """A relief whose forward fails at chosen calls; ``measure`` is what it does about it."""

    def __init__(self, *at: int, measure: Any = lambda _pack, _reason: None) -> None:
        self.at, self.calls, self.measure, self.reasons = set(at), 0, measure, []

    def check(self) -> None:
        self.calls += 1
        if self.calls in self.at:
            raise MemoryError("no room\nfor details")

    def give_way(self, pack: Pack, reason: str) -> None:
        self.reasons.append(reason)
        self.measure(pack, reason)


def _pack(root: Path, *specs: Spec, relief: Any = None) -> Pack:
    return Pack(make_task(), [make_member(spec, root) for spec in specs], never, relief)


def _watched(pack: Pack) -> list[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """What the base is asked from now on: noisy latents, timesteps and conditioning of each forward."""
    given, denoise = [], pack.task.denoiser.denoise

    def watched(noisy: Tensor, timesteps: Tensor, conditioning: dict[str, Tensor]) -> Tensor:
        given.append((noisy, timesteps, conditioning))
        return denoise(noisy, timesteps, conditioning)

    pack.task.denoiser.denoise = watched  # type: ignore[method-assign]
    return given


@pytest.mark.slow
def test_counters_of_an_accumulation(tmp_path: Path) -> None:
    pack = _pack(tmp_path, Spec("a", (*LONG, "trainer.accumulate=3", "data.batch_size=2")))
    (member,) = pack.members
    losses = []
    for micro in (1, 2):
        result = run_step(pack)
        assert (result.stepped, result.failed) == ([], [])
        assert (member.count.micro, member.count.ordinal, member.count.step) == (micro, 2 * micro, 0)
        losses.append(member.count.loss_sum)
        assert pack.bank.gradients.any()
    assert 0 < losses[0] < losses[1]
    assert math.isnan(member.loss)
    result = run_step(pack)
    assert (result.stepped, result.failed) == ([member], [])
    assert (member.count.micro, member.count.ordinal, member.count.step) == (0, 6, 1)
    assert member.loss > losses[1]
    assert member.count.loss_sum == 0
    assert not pack.bank.gradients.any()


@pytest.mark.slow
def test_a_base_in_bf16_predicts_in_it_and_the_loss_is_taken_in_fp32(tmp_path: Path) -> None:
    """By diffusers' UNet and schedule; the adapters are still zero."""
    words = (*LONG, "trainer.precision=bf16-true", "trainer.accumulate=2")
    members = [make_member(Spec(name, (*words, f"seed={seed}")), tmp_path) for seed, name in enumerate("ab")]
    pack = Pack(make_task(torch.bfloat16), members)
    batch = assemble(pack.task, members, pack.bank, dtype=torch.float32)
    with pack.bank.rows(batch.plan):
        losses = member_losses(pack, batch)
    assert losses.dtype == torch.float32
    assert losses.requires_grad
    scheduler, unet = scheduler_of("v_prediction"), plain_unet().eval().bfloat16()
    states = batch.rows.inputs["encoder_hidden_states"].bfloat16()
    latents, noise, levels = (batch.rows.inputs[name] for name in ("latents", "noise", "timesteps"))
    noisy = scheduler.add_noise(latents, noise, levels).bfloat16()
    with torch.no_grad():
        got = unet(noisy, levels, encoder_hidden_states=states).sample.float()
    target = scheduler.get_velocity(latents, noise, levels)
    each = (got - target).square().mean((1, 2, 3))
    expected = [float(each[:2].sum()) / 4, float(each[2:].sum()) / 4]
    assert losses.tolist() == pytest.approx(expected, rel=2e-3)


@pytest.mark.slow
def test_what_a_base_is_given_lies_on_its_device_in_its_type(tmp_path: Path) -> None:
    """Batches are drawn on the CPU in the adapters' type; a base on another device sees nothing of either."""
    members = [make_member(Spec("a", (*LONG, "trainer.precision=bf16-true")), tmp_path)]
    denoiser = make_denoiser(torch.bfloat16)
    inject(denoiser.module, "a", adapter_spec(members[0], denoiser))
    denoiser.module.to("meta")
    pack = Pack(Denoising(denoiser), members, injected=True)
    given = _watched(pack)
    batch = assemble(pack.task, members, pack.bank, dtype=torch.float32)
    assert batch.rows.inputs["latents"].device.type == "cpu"
    with pack.bank.rows(batch.plan):
        losses = member_losses(pack, batch)
    ((noisy, timesteps, conditioning),) = given
    assert {tensor.device.type for tensor in (noisy, timesteps, *conditioning.values(), losses)} == {"meta"}
    assert {tensor.dtype for tensor in (noisy, *conditioning.values())} == {torch.bfloat16}
    assert (timesteps.dtype, losses.dtype) == (torch.int64, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "forwards"), [(1, [1] * 5), (3, [3, 2])])
def test_parts_of_a_batch_add_up_to_it(rows: int, forwards: list[int], tmp_path: Path) -> None:
    specs = (Spec("a", (*LONG, "data.batch_size=3")), Spec("b", (*LONG, "data.batch_size=2", "seed=3")))
    whole, cut = _pack(tmp_path, *specs), _pack(tmp_path, *specs)
    cut.rows, given = rows, _watched(cut)
    run_step(whole), run_step(cut)
    assert [len(noisy) for noisy, _timesteps, _conditioning in given] == forwards
    for one, other in zip(whole.members, cut.members, strict=True):
        assert (other.loss, other.grad_norm) == pytest.approx((one.loss, one.grad_norm), rel=1e-9)
        assert (other.count.step, other.count.ordinal) == (1, one.count.ordinal)


@pytest.mark.slow
def test_who_rests_or_is_done_takes_no_part(tmp_path: Path) -> None:
    pack = _pack(
        tmp_path, Spec("a", LONG), Spec("b", LONG), Spec("c", ("trainer.max_steps=1", "scheduler.warmup_steps=0"))
    )
    pack.resting = frozenset("b")
    assert [m.name for m in run_step(pack).stepped] == ["a", "c"]
    assert [m.name for m in run_step(pack).stepped] == ["a"]
    assert [m.count.step for m in pack.members] == [2, 0, 1]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_no_step(tmp_path: Path) -> None:
    second = SampleOrder(seed=0, n_images=6).draw(1).image
    one_by_one = (*LONG, "data.batch_size=1", "data.flip=false", "trainer.accumulate=2")
    pack = _pack(tmp_path, Spec("sick", one_by_one, poisoned=second), Spec("well", (*LONG, "trainer.accumulate=2")))
    sick, well = pack.members
    before = pack.bank.state("sick")
    run_step(pack)
    result = run_step(pack)
    assert (result.stepped, result.failed) == ([well], [sick])
    assert sick.state == "failed"
    assert (sick.count.step, sick.count.micro, sick.count.ordinal, sick.count.loss_sum) == (0, 0, 0, 0.0)
    assert all(torch.equal(value, before[name]) for name, value in pack.bank.state("sick").items())
    assert not pack.bank.gradients.any()


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_no_step_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss may be a number where its gradient is none."""
    pack = _pack(tmp_path, Spec("a", LONG))
    (member,) = pack.members
    real = torch.linalg.vector_norm
    monkeypatch.setattr(torch.linalg, "vector_norm", lambda *args: real(*args) * math.inf)
    assert run_step(pack).failed == [member]
    assert math.isfinite(member.loss)
    assert member.error is not None
    assert "its gradient norm inf at step 1" in member.error


@pytest.mark.slow
def test_a_step_that_ran_out_of_memory_is_taken_again_from_its_beginning(tmp_path: Path) -> None:
    specs = (Spec("a", (*LONG, "trainer.accumulate=2")), Spec("b", LONG))
    told, eased = _pack(tmp_path, *specs), _pack(tmp_path, *specs)
    relief = Fails()
    eased.relief, eased.bank.alarm = relief, relief.check
    run_step(told), run_step(eased)
    layers = relief.calls
    relief.at = {layers + 5}
    run_step(eased)
    assert relief.reasons == ["no room"]
    a, b = eased.members
    assert (a.count.step, a.count.micro, a.count.ordinal) == (0, 1, 2), "back to the beginning, and one micro-batch"
    assert (b.count.step, b.count.ordinal) == (2, 4)
    run_step(eased), run_step(told), run_step(told)
    assert a.count.step == 1
    assert [m.loss for m in eased.members] == pytest.approx([m.loss for m in told.members], rel=1e-9)
    torch.testing.assert_close(eased.bank.state("a"), told.bank.state("a"), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(eased.bank.state("b"), told.bank.state("b"), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_where_nothing_gives_way_all_fail_with_its_reason(tmp_path: Path) -> None:
    def no_way(_pack: Pack, reason: str) -> None:
        raise OutOfMemoryError(f"nothing left: {reason}")

    relief = Fails(3, measure=no_way)
    pack = _pack(tmp_path, Spec("a", LONG), Spec("b", LONG), relief=relief)
    result = run_step(pack)
    assert (result.stepped, result.failed) == ([], pack.members)
    assert {member.error for member in pack.members} == {"nothing left: no room"}
    assert not pack.bank.gradients.any()
    assert run_step(pack).failed == []


@pytest.mark.slow
def test_a_member_that_left_meanwhile_is_not_asked_again(tmp_path: Path) -> None:
    def set_aside(pack: Pack, _reason: str) -> None:
        pack.set_members_aside(pack.active[1:])

    relief = Fails(3, measure=set_aside)
    pack = _pack(tmp_path, Spec("a", LONG), Spec("b", LONG), relief=relief)
    assert [member.name for member in run_step(pack).stepped] == ["a"]
    assert [member.name for member in pack.set_aside] == ["b"]


def _second_optimizer_fails(pack: Pack) -> list[set[str]]:
    """Memory runs out once, between two optimizers; those that were through by then."""
    whole, through = pack.optimizer.steps, []

    def steps(rates: Any) -> Any:
        for names in whole(rates):
            yield names
            if not through:
                through.append(names)
                raise MemoryError("no room")

    pack.optimizer.steps = steps  # type: ignore[method-assign]
    return through


TWO_OPTIMIZERS = (Spec("a", (*LONG, "optimizer=adafactor")), Spec("b", (*LONG, "optimizer=prodigy")))


@pytest.mark.slow
def test_a_member_whose_optimizer_stepped_before_the_shortage_steps_once(tmp_path: Path) -> None:
    """The first one's step comes first; where the next one's runs out of memory, the first is done with."""
    pack = _pack(tmp_path, *TWO_OPTIMIZERS, relief=Fails())
    through = _second_optimizer_fails(pack)
    result = run_step(pack)
    assert through == [{"a"}]
    assert sorted(member.name for member in result.stepped) == ["a", "b"]
    assert [member.count.step for member in pack.members] == [1, 1]
    assert [member.count.ordinal for member in pack.members] == [2, 2]


@pytest.mark.slow
def test_a_member_whose_optimizer_stepped_before_the_shortage_does_not_fail_by_it(tmp_path: Path) -> None:
    """Nor does one that had failed by itself fail a second time."""
    image = SampleOrder(seed=0, n_images=6).draw(0).image
    sick = Spec("sick", (*LONG, "data.batch_size=1", "data.flip=false"), poisoned=image)
    pack = _pack(tmp_path, *TWO_OPTIMIZERS, sick)  # without a relief
    _second_optimizer_fails(pack)
    result = run_step(pack)
    assert [member.name for member in result.stepped] == ["a"]
    assert [member.name for member in result.failed] == ["sick", "b"]
    assert [member.state for member in pack.members] == ["active", "failed", "failed"]
    a, b, other = pack.members
    assert (a.error, b.error) == (None, "no room")
    assert other.error is not None
    assert other.error.startswith("the loss is nan")
    assert (a.count.step, b.count.step, b.count.ordinal) == (1, 0, 0)


@pytest.mark.slow
def test_what_the_forward_held_is_let_go_before_the_pack_gives_way(tmp_path: Path) -> None:
    """Also where the error is part of a cycle: its traceback holds every activation."""
    gone: list[bool] = []

    class Held(Fails):
        def check(self) -> None:
            try:
                super().check()
            except MemoryError as error:
                error.args = (*error.args, error)
                raise

    pack = _pack(tmp_path, Spec("a", LONG), relief=Held(3, measure=lambda _pack, _reason: gone.append(noisy() is None)))
    denoise = pack.task.denoiser.denoise

    def watched(latents: Tensor, *others: Any) -> Tensor:
        nonlocal noisy
        noisy = weakref.ref(latents)
        return denoise(latents, *others)

    noisy: Any = None
    pack.task.denoiser.denoise = watched  # type: ignore[method-assign]
    run_step(pack)
    assert gone == [True]


def test_another_error_is_raised(tmp_path: Path) -> None:
    class Broken(Fails):
        def check(self) -> None:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run_step(_pack(tmp_path, Spec("a", LONG), relief=Broken()))


class _NoWaiting(TorchDispatchMode):
    """Ends what reads a number from a device, for which its host has to wait: ``.item()``, ``bool()``, ``nonzero``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        waits = {aten._local_scalar_dense, aten.is_nonzero, aten.nonzero, aten.equal}
        assert func.overloadpacket not in waits, func
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
def test_a_step_waits_for_no_device_but_to_read_losses_and_norms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tolist``, which a dispatch mode does not see on a CPU, is what reads those: once of each."""
    said = ("lora.dropout=0.2", "lora.alpha=3x")
    specs = [Spec("a", said), Spec("gone"), Spec("b", ("seed=2", "data.batch_size=1")), Spec("c", ("seed=3",))]
    pack = Pack(make_task(), [make_member(spec, tmp_path, job) for job, spec in enumerate(specs)])
    pack.leave([pack.members[1]])  # places that do not lie evenly apart are picked
    read, whole = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: read.append(tuple(self.shape)) or whole(self))
    batch = assemble(pack.task, pack.members, pack.bank, dtype=pack.dtypes.adapter)
    read.clear()
    monkeypatch.setattr(pack_step, "assemble", lambda *_, **__: batch)  # data is read on the CPU, where it lies
    with _NoWaiting():
        assert len(run_step(pack).stepped) == 3
    assert read == [(3,), (3,)]


class _Copies(TorchDispatchMode):
    """Where something is copied between host and device, and both wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.blocking: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        crosses = {
            "_to_copy": lambda: kwargs.get("device") not in (None, args[0].device) and not kwargs.get("non_blocking"),
            "copy_": lambda: args[0].device != args[1].device and not (len(args) > 2 and args[2]),
        }.get(func.overloadpacket.__name__)
        if crosses is not None and crosses():
            ours = [at for at in traceback.extract_stack() if "lora_foundry" in at.filename]
            self.blocking.append(f"{ours[-1].filename}:{ours[-1].lineno}")
        return func(*args, **kwargs)


@pytest.mark.slow
def test_nothing_that_a_step_brings_to_a_device_is_waited_for() -> None:
    """On tensors without memory, which stand for a card's; rows come from the CPU as they do in training."""
    config = compose_job("lora.target_modules=attention", "lora.dropout=0.1", "trainer.precision=16-mixed")
    sizes = open_sizes(config.model)
    base = sizes.build(DTYPES[config.trainer.precision].base)
    members = [placeholder(config, name) for name in range(2)]
    for member in members:
        inject(base.components, member.name, adapter_spec(member, base))
    for network in base.components.values():
        network.to(META)
    with META, attention_by("fused"):
        pack = Pack(Denoising(base), members, injected=True)
        batch = zeros(pack, sizes, [2, 2])
    rows = StepRows(
        inputs={name: torch.zeros(one.shape, dtype=one.dtype) for name, one in batch.rows.inputs.items()},
        weight=torch.zeros(len(batch.rows.weight), dtype=batch.rows.weight.dtype),
    )
    with attention_by("fused"), _Copies() as seen:
        run_once(pack, replace(batch, rows=rows))
    assert not seen.blocking


@pytest.mark.parametrize("counts", [(2, 2, 2, 2), (1, 2, 4)])
def test_losses_are_each_members_own_over_what_its_step_has(counts: tuple[int, ...]) -> None:
    """Where all have as many rows, in as many operations as for one."""
    rows, wholes = sum(counts), tuple(2.0 * n for n in range(1, len(counts) + 1))
    losses = torch.arange(1.0, rows + 1, dtype=torch.float64).requires_grad_()
    weight = torch.linspace(0.5, 2.0, rows, dtype=torch.float64)

    def operations(counts: tuple[int, ...]) -> tuple[int, Tensor]:
        plan, count = RowPlan(places=tuple(range(len(counts))), counts=counts), sum(counts)
        task = SimpleNamespace(losses=lambda _: losses[:count] * 1.0, whole=lambda member: member)
        batch = PackBatch(rows=StepRows(inputs={}, weight=weight[:count]), plan=plan, members=wholes[: len(counts)])
        pack = SimpleNamespace(task=task, device=torch.device("cpu"))
        with Counted() as counted:
            made = member_losses(pack, batch)
            made.sum().backward()
        return counted.calls.total(), made.detach()

    number, made = operations(counts)
    shares = [whole for whole, count in zip(wholes, counts, strict=True) for _ in range(count)]
    expected = losses.detach() * weight / torch.tensor(shares, dtype=torch.float64)
    torch.testing.assert_close(made, torch.stack([part.sum() for part in expected.split(list(counts))]))
    torch.testing.assert_close(losses.grad, expected / losses.detach())
    if len(set(counts)) == 1:
        assert number == operations(counts[:1])[0]
