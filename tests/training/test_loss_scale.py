"""fp16: each member's loss has a scale of its own, and what does not fit costs that member a step and nobody else."""

from __future__ import annotations

import json
import math
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.amp import GradScaler

from lora_foundry.data.order import SampleOrder
from lora_foundry.lora.bank import AdapterBank
from lora_foundry.training import checkpoint
from lora_foundry.training.batch import assemble
from lora_foundry.training.checkpoint import load_newest, read_part, restore, save_member
from lora_foundry.training.loss_scale import INITIAL, is_hopeless, note_good, note_overflow
from lora_foundry.training.member import Counters
from lora_foundry.training.pack import Pack
from lora_foundry.training.pack_step import member_losses, run_step, with_scales
from lora_foundry.training.precision import Dtypes
from lora_foundry.wire.events import MetricsEvent
from tests.training.test_joining import joined
from tests.training.world import Spec, distance, make_member, make_task, train, undisturbed

HALF = ("trainer.precision=16-mixed", "trainer.max_steps=40")
THREE = ("data.batch_size=1", "trainer.accumulate=3", "trainer.max_steps=9")
TOO_MUCH = 2.0**60
FEW_LAYERS = "lora.target_modules=[to_q,ff.net.2,conv1]"  # of each kind, soon injected


def _pack(root: Path, *specs: Spec) -> Pack:
    return Pack(make_task(torch.float16), [make_member(spec, root, job) for job, spec in enumerate(specs)])


def _weights(pack: Pack, name: str) -> torch.Tensor:
    return _own(pack.bank, pack.bank.weights[pack.bank.place(name)], name).clone()


def _own(bank: AdapterBank, row: torch.Tensor, name: str) -> torch.Tensor:
    """Without padding, as one vector."""
    return torch.cat([one.flatten() for one in bank.unpack(row, name).values()])


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are scaled in any precision: what scales do is seen in 64-bit, without fp16's rounding."""
    monkeypatch.setattr(Dtypes, "scaled", property(lambda _: True))


@pytest.mark.slow
def test_a_scale_moves_as_torchs_own_does() -> None:
    scaler, ours = GradScaler("cpu"), Counters()
    bad = {3, 4, 2100, 4101}
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler.scale(weight)  # it has a scale from the first loss on
    for step in range(4105):
        overflows = step in bad
        weight.grad = torch.full((1,), math.inf if overflows else 1.0)
        scaler.step(optimizer)
        scaler.update()
        (note_overflow if overflows else note_good)(ours)
        assert (ours.loss_scale, ours.good_steps) == (scaler.get_scale(), scaler._get_growth_tracker())
    assert (ours.skipped, ours.loss_scale) == (4, INITIAL / 16 * 2**2)


@pytest.mark.parametrize(
    ("scale", "skipped", "hopeless"),
    [(INITIAL, 0, False), (2.0, 9, False), (1.0, 9, True), (INITIAL, 38, False), (INITIAL, 39, True)],
)
def test_fp16_is_given_up_when_nothing_is_left_to_halve_or_no_step_to_take(
    scale: float, skipped: int, hopeless: bool
) -> None:
    assert is_hopeless(Counters(loss_scale=scale, skipped=skipped), 40) is hopeless


@pytest.mark.slow
def test_an_overflow_costs_that_member_a_step_and_its_mate_nothing(tmp_path: Path) -> None:
    sick, well = Spec("sick", HALF), Spec("well", (*HALF, "seed=4", "data.batch_size=1"))
    pack, calm = _pack(tmp_path, sick, well), _pack(tmp_path / "calm", sick, well)
    before = _weights(pack, "sick")
    pack.members[0].count.loss_scale = TOO_MUCH
    result, other = run_step(pack), run_step(calm)
    assert [member.name for member in result.stepped] == ["sick", "well"]
    assert (result.skipped, result.failed, other.skipped) == ([pack.members[0]], [], [])
    assert torch.equal(_weights(pack, "sick"), before)
    assert not torch.equal(_weights(calm, "sick"), before)
    assert torch.equal(_weights(pack, "well"), _weights(calm, "well"))
    assert not bool(pack.bank.gradients.any())
    count = pack.members[0].count
    assert (count.loss_scale, count.step, count.ordinal, count.skipped) == (TOO_MUCH / 2, 1, 2, 1)
    assert pack.members[1].count.loss_scale == INITIAL
    assert float(next(iter(pack.optimizer.state("sick").numbers.values()))) == 0.0, "its optimizer took no step"


@pytest.mark.slow
@pytest.mark.usefixtures("scaled")
def test_scales_leave_no_trace_in_the_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers of two round nothing, whatever each member's is, in the middle of an accumulation as well."""
    own = ("trainer.accumulate=3",), ("seed=2", "data.batch_size=1", "lora.dropout=0.2")
    specs = [Spec(name, (FEW_LAYERS, *words)) for name, words in zip("ab", own, strict=True)]

    def after_steps(scales: tuple[float, float]) -> dict[str, torch.Tensor]:
        members = [make_member(spec, tmp_path, job) for job, spec in enumerate(specs)]
        pack = Pack(make_task(), members)
        for member, scale in zip(members, scales, strict=True):
            member.count.loss_scale = scale
        for _ in range(4):
            run_step(pack)
        return {member.name: _weights(pack, member.name) for member in members}

    one = after_steps((INITIAL, INITIAL))
    other = after_steps((8.0, 2.0**30))
    with monkeypatch.context() as plain:
        plain.setattr(Dtypes, "scaled", property(lambda _: False))
        without = after_steps((1.0, 1.0))
    for name in one:
        assert torch.equal(one[name], other[name]) and torch.equal(one[name], without[name])  # noqa: PT018


@pytest.mark.slow
@pytest.mark.usefixtures("scaled")
def test_a_member_that_overflows_ends_as_it_would_alone_and_so_do_its_mates(tmp_path: Path) -> None:
    """The contract's first depth: in 64-bit, with a sample in it that is always too large."""
    image = SampleOrder(seed=0, n_images=6).draw(3).image
    sick = Spec("sick", ("data.batch_size=1", "data.flip=false", "trainer.max_steps=12"), poisoned=image)
    longer = ("seed=3", "trainer.accumulate=2", "lora.dropout=0.2", "trainer.max_steps=9")
    specs = [sick, Spec("mate", longer), Spec("late", ("optimizer=adafactor", *THREE), poisoned=image)]
    packed = train(specs, tmp_path / "packed")
    assert [packed.states(job)[-1] for job in range(3)] == ["FINISHED"] * 3
    for spec in specs:
        solo = train([spec], tmp_path / spec.name)
        for field in ("step", "ordinal", "loss_scale", "good_steps", "skipped"):
            ours, alone = packed.parts[spec.name].count, solo.parts[spec.name].count
            assert getattr(ours, field) == getattr(alone, field), (spec.name, field)
        assert distance(packed.weights(spec.name), solo.weights(spec.name)) < 1e-9
    assert packed.parts["sick"].count.skipped == 2, "an epoch of six, twice"
    assert packed.parts["sick"].count.step == 12
    assert packed.parts["mate"].count.skipped == 0
    assert packed.parts["late"].count.skipped > 1


@pytest.mark.slow
@pytest.mark.usefixtures("scaled")
def test_a_member_that_joins_with_a_scale_of_its_own_equals_its_solo_run(tmp_path: Path) -> None:
    """It comes in the middle of a mate's accumulation, overflows, and leaves before the mate is done."""
    image = SampleOrder(seed=0, n_images=6).draw(1).image
    here = Spec("here", ("trainer.accumulate=3", "trainer.max_steps=6", "lora.dropout=0.2"))
    comes = Spec("comes", ("data.batch_size=1", "data.flip=false", "trainer.max_steps=8"), poisoned=image)
    joined(tmp_path / "packed", [here], comes, after=3)
    for spec in (here, comes):
        packed, solo = load_newest(tmp_path / "packed" / spec.name / "checkpoints")[0], undisturbed(spec)
        alone = solo.parts[spec.name]
        assert (packed.count.loss_scale, packed.count.skipped) == (alone.count.loss_scale, alone.count.skipped)
        assert distance(packed.weights, alone.weights) < 1e-9
    assert (packed.count.skipped, packed.count.loss_scale) == (1, INITIAL / 2)


@pytest.mark.slow
@pytest.mark.usefixtures("scaled")
def test_an_overflow_anywhere_in_an_accumulation_costs_all_of_it(tmp_path: Path) -> None:
    order = SampleOrder(seed=0, n_images=6)
    words = ("data.batch_size=1", "data.flip=false", "trainer.accumulate=3", "trainer.max_steps=40")
    member = make_member(Spec("a", words, poisoned=order.draw(0).image), tmp_path)
    pack = Pack(make_task(), [member])
    before, results = _weights(pack, "a"), [run_step(pack) for _ in range(3)]
    assert [len(result.skipped) for result in results] == [0, 0, 1]
    assert torch.equal(_weights(pack, "a"), before)
    assert (member.count.micro, member.count.ordinal, member.count.loss_sum) == (0, 3, 0.0)
    assert [run_step(pack).skipped for _ in range(3)] == [[], [], []]
    assert not torch.equal(_weights(pack, "a"), before)


@pytest.mark.slow
def test_what_fp16_cannot_hold_at_all_fails_as_what_is_not_finite_does(tmp_path: Path) -> None:
    everywhere = Spec("a", ("trainer.precision=16-mixed", "trainer.max_steps=40", "data.batch_size=6"), poisoned=0)
    trained = train([everywhere, Spec("b", ("trainer.precision=16-mixed", "seed=1"))], tmp_path)
    assert [trained.states(job)[-1] for job in range(2)] == ["FAILED", "FINISHED"]
    error = next(event.error for event in trained.events if getattr(event, "error", None))
    assert "the loss is nan" in error
    assert "loss scale of 1 after 16 steps" in error
    assert "trainer.precision=32-true" in error
    assert not any(bool(weight.any()) for key, weight in trained.weights("a").items() if key.endswith(".B"))


@pytest.mark.slow
def test_a_checkpoint_holds_scale_and_counters_and_a_resume_ends_bitwise_alike(tmp_path: Path) -> None:
    specs = [
        Spec("a", ("trainer.precision=16-mixed", "trainer.accumulate=2", "trainer.checkpoint_every=1")),
        Spec("b", ("trainer.precision=16-mixed", "seed=3", "trainer.checkpoint_every=1", "trainer.max_steps=9")),
    ]
    whole = train(specs, tmp_path / "whole")
    asked = count()
    cut = train(specs, tmp_path / "cut", stop=lambda: next(asked) > 11)
    assert {cut.states(job)[-1] for job in range(2)} == {"KILLED"}
    assert cut.parts["a"].count.good_steps == cut.parts["a"].count.step > 0
    resumed = train(specs, tmp_path / "cut", resume=frozenset({"a", "b"}))
    for spec in specs:
        for key, value in whole.weights(spec.name).items():
            assert torch.equal(value, resumed.weights(spec.name)[key]), (spec.name, key)


@pytest.mark.slow
def test_a_scale_is_kept_in_the_middle_of_an_accumulation(tmp_path: Path) -> None:
    spec = Spec("a", (*HALF, "trainer.accumulate=2"))
    pack = _pack(tmp_path, spec)
    pack.members[0].count.loss_scale = 8.0
    run_step(pack)
    part = read_part(save_member(pack, pack.members[0], tmp_path / "saved"))
    assert (part.count.micro, part.count.loss_scale) == (1, 8.0)
    again = _pack(tmp_path / "again", spec)
    restore(again, again.members[0], part)
    run_step(pack)
    run_step(again)
    assert torch.equal(_weights(pack, "a"), _weights(again, "a"))


@pytest.mark.slow
def test_a_checkpoint_from_before_there_were_scales_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = Pack(make_task(), [make_member(Spec("a"), tmp_path)])
    run_step(pack)
    later, dumps = {"loss_scale", "good_steps", "skipped"}, json.dumps

    def before(values: dict[str, object], **options: bool) -> str:
        return dumps({key: value for key, value in values.items() if key not in later}, **options)

    with monkeypatch.context() as earlier:
        earlier.setattr(checkpoint, "_FORMAT", "lora-foundry/member/1")
        earlier.setattr(checkpoint, "json", SimpleNamespace(dumps=before))
        save_member(pack, pack.members[0], tmp_path / "saved")
    assert b"loss_scale" not in next((tmp_path / "saved").iterdir()).read_bytes()
    part, path, complaints = load_newest(tmp_path / "saved")
    assert b"member/1" in path.read_bytes()
    assert (part.count.step, part.count.loss_scale, part.count.skipped, complaints) == (1, INITIAL, 0, [])


@pytest.mark.slow
def test_an_fp16_steps_gradients_are_those_of_32_bits_to_fp16s_rounding(tmp_path: Path) -> None:
    """The second depth, and small gradients are there: without a scale most of them would be zeros."""
    specs = [Spec("a", (FEW_LAYERS,)), Spec("b", (FEW_LAYERS, "lora.rank=7", "seed=4", "data.batch_size=3"))]

    def gradients(precision: str, dtype: torch.dtype, chosen: list[Spec]) -> dict[str, torch.Tensor]:
        words = (f"trainer.precision={precision}", "trainer.max_steps=40")
        members = [make_member(Spec(one.name, (*one.overrides, *words)), tmp_path) for one in chosen]
        pack = Pack(make_task(dtype), members)
        for member in members:
            draw = torch.Generator().manual_seed(9)
            for key, value in pack.bank.unpack(pack.bank.weights[pack.bank.place(member.name)], member.name).items():
                if key.endswith(".B"):
                    value.copy_(torch.randn(value.shape, generator=draw) * 0.05)
        batch = assemble(pack.task, members, pack.bank, dtype=torch.float32)
        with pack.bank.rows(batch.plan):
            with_scales(pack, batch, member_losses(pack, batch)).sum().backward()
        scale = INITIAL if pack.dtypes.scaled else 1.0
        bank = pack.bank
        return {m.name: _own(bank, bank.gradients[bank.place(m.name)], m.name) / scale for m in members}

    packed, exact = gradients("16-mixed", torch.float16, specs), gradients("32-true", torch.float32, specs)
    alone = gradients("16-mixed", torch.float16, specs[:1])["a"]
    assert float((packed["a"] - alone).norm() / alone.norm()) < 5e-3
    for spec in specs:
        assert float((packed[spec.name] - exact[spec.name]).norm() / exact[spec.name].norm()) < 1e-2


@pytest.mark.slow
def test_what_happens_to_a_scale_is_logged(tmp_path: Path) -> None:
    trained = train([Spec("a", ("trainer.precision=16-mixed", "trainer.log_every=1"))], tmp_path)
    points = [event.values for event in trained.events if isinstance(event, MetricsEvent)]
    logged = [values for values in points if "train/lr" in values]
    assert [values["train/loss_scale"] for values in logged] == [INITIAL] * 8
    assert logged[-1]["train/skipped_steps"] == 0
    assert all(math.isfinite(values["train/loss"]) for values in logged)
    json.dumps(logged, allow_nan=False)
