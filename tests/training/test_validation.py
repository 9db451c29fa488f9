"""The validation loss is the same number whatever the run is like."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lora_foundry.data.cache import TensorCache, device_name, digest_of, key_of
from lora_foundry.data.encoding import EncodedData
from lora_foundry.lora.rows import RowPlan
from lora_foundry.models.sampling import rows_of_a_forward
from lora_foundry.tasks import FixedRows
from lora_foundry.tasks.denoising import Denoising
from lora_foundry.tasks.denoising.task import fixed_rows
from lora_foundry.training.pack import Pack, never
from lora_foundry.training.validation import Score, Validator, _by_item
from tests.training.oracle import Oracle, scheduler_of, stream
from tests.training.world import Spec, make_data, make_denoiser, make_member, make_task, plain_unet

OPTIONS = ("validation.timesteps=8", "validation.max_images=3")
PROCESS = make_denoiser().process


def _pack(tmp_path: Path, *specs: Spec) -> Pack:
    members = [make_member(spec, tmp_path) for spec in specs]
    for member in members:  # as in a sweep: jobs of one data set share its tensors and are scored together
        member.material = replace(member.material, validation=members[0].material.validation)
    return Pack(make_task(), members)


@pytest.mark.slow
def test_an_untrained_adapter_scores_exactly_like_the_base(tmp_path: Path) -> None:
    pack = _pack(tmp_path, Spec("a", OPTIONS), Spec("b", (*OPTIONS, "lora.rank=2", "data.batch_size=1", "seed=9")))
    scores = Validator(pack).score(pack.members)
    assert scores["a"].relative == scores["b"].relative == pytest.approx(1.0, abs=1e-12)
    assert scores["a"].loss == pytest.approx(scores["b"].loss, rel=1e-12)


@pytest.mark.slow
def test_rows_per_forward_and_company_change_nothing(tmp_path: Path) -> None:
    def score(rows: int, *others: str) -> float:
        options = (*OPTIONS, f"validation.batch_rows={rows}")
        pack = _pack(tmp_path, Spec("a", options), *(Spec(o, options) for o in others))
        draw = torch.Generator().manual_seed(0)
        for value in pack.bank.unpack(pack.bank.weights[0], "a").values():
            value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64) * 0.1)
        return Validator(pack).score(pack.members)["a"].loss

    alone = score(64)
    assert score(5) == pytest.approx(alone, rel=1e-12)
    assert score(64, "b", "c") == pytest.approx(alone, rel=1e-12)


@pytest.mark.slow
def test_the_rows_do_not_depend_on_the_order_of_files() -> None:
    config = Spec("a", OPTIONS).config().validation
    data = make_data(5, variants=1)
    order = [3, 0, 4, 1, 2]
    shuffled = type(data)(
        latents=data.latents[order],
        captions=data.captions,
        caption_index=data.caption_index[order],
        records=tuple(data.records[i] for i in order),
    )
    one, other = (fixed_rows(d, config, PROCESS, torch.float64) for d in (data, shuffled))
    assert torch.equal(one.inputs["latents"], other.inputs["latents"])
    assert torch.equal(one.inputs["noise"], other.inputs["noise"])
    assert torch.equal(one.inputs["encoder_hidden_states"], other.inputs["encoder_hidden_states"])
    assert len(one) == 3 * 8
    assert one.inputs["timesteps"][:8].tolist() == [62, 187, 312, 437, 562, 687, 812, 937]


@pytest.mark.slow
def test_bands_average_to_the_whole(tmp_path: Path) -> None:
    pack = _pack(tmp_path, Spec("a", OPTIONS))
    score = Validator(pack).score(pack.members)["a"]
    assert len(score.measures["loss"].by_group) == 4
    assert sum(score.measures["loss"].by_group.values()) / 4 == pytest.approx(score.loss)
    assert set(score.metrics()) == {
        "val/loss",
        "val/loss_rel",
        *(f"val/loss_{band}" for band in score.measures["loss"].by_group),
    }


@pytest.mark.slow
def test_the_bases_own_losses_are_computed_once_for_all_packs(tmp_path: Path) -> None:
    def score(*, brighter: float = 1.0, base_hash: str = "b" * 64, extra: tuple[str, ...] = ()) -> tuple[int, Score]:
        """Forwards of the base that a new pack needed, and its score."""
        member = make_member(Spec("a", (*OPTIONS, *extra)), tmp_path)
        member.cache = TensorCache(tmp_path / "cache")
        member.material.validation.latents.mul_(brighter)
        member.provenance = replace(member.provenance, base_hash=base_hash)
        denoiser, forwards = make_denoiser(), []
        denoiser.module.register_forward_pre_hook(lambda *_: forwards.append(1))
        found = Validator(Pack(Denoising(denoiser), [member])).score([member])["a"]
        return len(forwards), found

    computed, first = score()
    kept, again = score()
    assert computed > 0
    assert kept == 0
    assert again == first
    assert score(brighter=1.1)[0] > 0
    assert score(base_hash="c" * 64)[0] > 0
    assert score(extra=("validation.timesteps=4",))[0] > 0


def _woken(pack: Pack) -> None:
    """Every member has learned something, each another thing."""
    for place, name in enumerate(pack.bank.members):
        draw = torch.Generator().manual_seed(place)
        for value in pack.bank.unpack(pack.bank.weights[place], name).values():
            value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64) * 0.1)


def _by_hand(unet: Any, data: EncodedData, images: list[int], count: int, predicts: str) -> dict[int, list[float]]:
    """Timestep to the plain losses of ``images`` there: the mid-points of ``count`` equal bins of 1000."""
    scheduler, losses = scheduler_of(predicts), {}
    for step in [(2 * i + 1) * 1000 // (2 * count) for i in range(count)]:
        for image in images:
            record = data.records[image]
            key = stream(0, "validation", record.digest, record.caption, step)
            clean = data.latents[image, 0].double()[None]
            noise, at = torch.randn(clean.shape[1:], generator=key).double()[None], torch.tensor([step])
            text = data.captions["encoder_hidden_states"][data.caption_index[image]].double()[None]
            with torch.no_grad():
                got = unet(scheduler.add_noise(clean, noise, at), at, encoder_hidden_states=text).sample
            target = scheduler.get_velocity(clean, noise, at) if predicts == "v_prediction" else noise
            losses.setdefault(step, []).append(float(nn.functional.mse_loss(got, target)))
    return losses


def _mean(losses: dict[int, list[float]], low: int = 0, high: int = 1000) -> float:
    inside = [loss for step, row in losses.items() if low <= step < high for loss in row]
    return sum(inside) / len(inside)


@pytest.mark.slow
@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("count", [2, 6])
def test_a_score_is_the_plain_loss_on_the_fixed_rows(predicts: str, count: int, tmp_path: Path) -> None:
    """Diffusers' UNet and schedule, PEFT's layers and a mean, over two of three images by their digests."""
    words = (f"validation.timesteps={count}", "validation.max_images=2", "validation.batch_rows=4")
    members = [make_member(Spec(name, words), tmp_path) for name in "ab"]
    members[1].material = replace(members[1].material, validation=members[0].material.validation)
    pack = Pack(make_task(predicts=predicts), members)
    _woken(pack)
    got = Validator(pack).score(members)
    data = members[0].material.validation
    images = sorted(range(3), key=lambda i: data.records[i].digest)[:2]
    base = _by_hand(plain_unet().eval().double(), data, images, count, predicts)
    for member in members:
        oracle = Oracle(member, predicts, [])
        for name, weight in pack.bank.state(member.name).items():
            layer = oracle.layers[name[:-2]]
            held = layer.lora_A["oracle"].weight if name.endswith(".A") else layer.lora_B["oracle"].weight
            held.data.copy_(weight if name.endswith(".A") else weight.T)
        mine, score = _by_hand(oracle.unet, data, images, count, predicts), got[member.name]
        assert score.loss == pytest.approx(_mean(mine), rel=1e-9)
        assert score.relative == pytest.approx(_mean(mine) / _mean(base), rel=1e-9)
        edges = {f"t{low:03d}_{low + 250}": low for low in (0, 250, 500, 750)}
        expected = {
            band: _mean(mine, low, low + 250)
            for band, low in edges.items()
            if any(low <= step < low + 250 for step in mine)
        }
        assert score.measures["loss"].by_group == pytest.approx(expected, rel=1e-9)
    assert got["a"].loss != got["b"].loss


@pytest.mark.slow
def test_a_band_begins_at_its_own_first_timestep(tmp_path: Path) -> None:
    """Two bins of a thousand have their mid-points at 250 and 750, the edges of bands."""
    pack = _pack(tmp_path, Spec("a", ("validation.timesteps=2", "validation.max_images=1")))
    assert list(Validator(pack).score(pack.members)["a"].measures["loss"].by_group) == ["t250_500", "t750_1000"]


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 3, 64])
def test_members_that_do_not_fit_one_forward_are_scored_in_groups(rows: int, tmp_path: Path) -> None:
    words = ("validation.timesteps=2", "validation.max_images=2", f"validation.batch_rows={rows}")
    pack = _pack(tmp_path, *(Spec(name, words) for name in "abc"))
    _woken(pack)
    together = Validator(pack).score(pack.members)
    for member in pack.members:
        alone = Validator(pack).score([member])[member.name]
        assert together[member.name].loss == pytest.approx(alone.loss, rel=1e-12)


@pytest.mark.slow
def test_members_are_scored_on_their_own_held_out_images(tmp_path: Path) -> None:
    members = [make_member(Spec(name, OPTIONS), tmp_path) for name in "ab"]
    members[1].material = replace(members[1].material, validation=make_data(3, seed=9, variants=1))
    pack = Pack(make_task(), members)
    scores = Validator(pack).score(members)
    for member in members:
        assert scores[member.name] == Validator(pack).score([member])[member.name]
    assert scores["a"].loss != scores["b"].loss


@pytest.mark.slow
def test_a_member_that_has_learned_beside_one_that_has_not(tmp_path: Path) -> None:
    pack = _pack(tmp_path, Spec("a", OPTIONS), Spec("b", OPTIONS))
    _woken(pack)
    for name, value in pack.bank.unpack(pack.bank.weights[0], "a").items():
        if name.endswith(".B"):
            value.zero_()
    scores = Validator(pack).score(pack.members)
    assert scores["a"].relative == 1.0
    assert scores["b"].relative != 1.0


@pytest.mark.slow
def test_rows_of_a_forward_suit_the_pictures_size() -> None:
    config = Spec("a", ("validation.timesteps=1", "validation.max_images=1")).config().validation
    data = make_data(1, variants=1)
    wide = replace(data, latents=torch.zeros(1, 1, 4, 64, 256))
    rows = fixed_rows(wide, config, PROCESS, torch.float32)
    assert rows.per_forward == rows_of_a_forward(64 * 256) == 4
    asked = replace(config, batch_rows=7)
    assert fixed_rows(wide, asked, PROCESS, torch.float32).per_forward == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fixed_rows_have_the_dtype_that_was_asked_for(dtype: torch.dtype) -> None:
    config = Spec("a", OPTIONS).config().validation
    rows = fixed_rows(make_data(3, variants=1), config, PROCESS, dtype)
    assert {values.dtype for name, values in rows.inputs.items() if name != "timesteps"} == {dtype}


@pytest.mark.slow
@pytest.mark.parametrize(("half", "kind"), [("bf16-true", torch.bfloat16), ("16-mixed", torch.float16)])
def test_a_base_in_16_bits_is_scored_against_targets_in_fp32(half: str, kind: torch.dtype, tmp_path: Path) -> None:
    def score(precision: str, dtype: torch.dtype) -> float:
        member = make_member(Spec("a", (*OPTIONS, f"trainer.precision={precision}")), tmp_path)
        pack = Pack(make_task(dtype), [member])
        _woken(pack)
        seen = []
        pack.task.denoiser.module.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args[0].dtype, kwargs["encoder_hidden_states"].dtype)),
            with_kwargs=True,
        )
        loss = Validator(pack).score([member])["a"].loss
        assert set(seen) == {(dtype, dtype)}
        return loss

    assert score(half, kind) == pytest.approx(score("32-true", torch.float32), rel=0.02)


@pytest.mark.slow
def test_scoring_takes_fewer_rows_where_memory_runs_out_and_goes_on_with_them(tmp_path: Path) -> None:
    words = ("validation.timesteps=4", "validation.max_images=2", "validation.batch_rows=8")
    pack = _pack(tmp_path, Spec("a", words))
    _woken(pack)
    expected = Validator(pack).score(pack.members)["a"]
    asked: list[int] = []

    def small(_: Any, args: Any) -> None:
        asked.append(len(args[0]))
        if asked[-1] > 3:
            raise MemoryError("no room")

    pack.task.denoiser.module.register_forward_pre_hook(small)
    validator = Validator(pack)
    assert validator.score(pack.members)["a"].loss == pytest.approx(expected.loss, rel=1e-12)
    assert asked == [8, 4, 2, 2, 2, 2, *[2] * 4], "the base's, then its own"
    validator.score(pack.members)
    assert asked[10:] == [2] * 4


@pytest.mark.slow
def test_a_shortage_ends_a_forward_that_can_get_smaller_and_no_other(tmp_path: Path) -> None:
    heard: list[int] = []

    class Listening:
        def check(self) -> None:
            heard.append(1)

        def give_way(self, pack: Pack, reason: str) -> None:
            raise AssertionError((pack.rows, reason))

    for rows, rings in ((4, True), (2, True), (1, False)):
        member = make_member(Spec("a", ("validation.timesteps=2", f"validation.batch_rows={rows}")), tmp_path)
        pack = Pack(make_task(), [member], never, Listening())
        _woken(pack)
        heard.clear()
        Validator(pack).score([member])
        assert bool(heard) is rings, rows


@pytest.mark.slow
def test_base_losses_that_an_earlier_run_kept_are_found_by_what_decides_them(tmp_path: Path) -> None:
    """The key is a format on the disk: with another one, everything would be computed again."""
    member = make_member(Spec("a", OPTIONS), tmp_path)
    member.cache = TensorCache(tmp_path / "cache")
    pack = Pack(make_task(), [member])
    Validator(pack).score([member])
    rows = fixed_rows(member.material.validation, member.config.validation, PROCESS, torch.float64)
    tensors = rows.inputs
    decides = {
        "kind": "base losses",
        "base": "b" * 64,
        "rows": digest_of(tensors),
        "scheduler": dict(pack.task.denoiser.scheduler_config),
        "dtypes": ["torch.float64", "torch.float64"],
        "device": "cpu",
        "torch": torch.__version__,
    }
    kept = member.cache.get(key_of(decides))
    assert kept is not None
    images = sorted(range(3), key=lambda i: member.material.validation.records[i].digest)
    by_step = _by_hand(plain_unet().eval().double(), member.material.validation, images, 8, "v_prediction")
    expected = [losses[image] for image in range(3) for losses in by_step.values()]
    assert kept["losses"].tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    member = make_member(Spec("a", OPTIONS), tmp_path)
    member.cache = TensorCache(tmp_path / "cache")

    def full(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(member.cache, "put", full)
    with caplog.at_level(logging.WARNING):
        assert Validator(Pack(make_task(), [member])).score([member])["a"].relative == 1.0
    assert [r.getMessage() for r in caplog.records] == ["the base's validation losses were not kept: the disk is full"]


@pytest.mark.slow
def test_losses_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    member = make_member(Spec("a", OPTIONS), tmp_path)
    member.cache = TensorCache(tmp_path / "cache")
    member.material.validation.latents[:] = torch.nan
    Validator(Pack(make_task(), [member])).score([member])
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.slow
def test_base_losses_of_another_precision_are_others(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path / "cache")
    for count, (precision, dtype) in enumerate(
        (("64-true", torch.float64), ("32-true", torch.float32), ("bf16-true", torch.bfloat16)), start=1
    ):
        member = make_member(Spec("a", (*OPTIONS, f"trainer.precision={precision}")), tmp_path)
        member.cache = cache
        Validator(Pack(make_task(dtype), [member])).score([member])
        assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == count


@pytest.mark.slow
def test_a_validators_data_is_held(tmp_path: Path) -> None:
    """Or data of a later member could be taken for it, by its id."""
    pack = _pack(tmp_path, Spec("a", OPTIONS))
    validator = Validator(pack)
    validator.score(pack.members)
    assert list(validator._data.values()) == [pack.members[0].material.validation]
    assert list(validator._data) == [id(pack.members[0].material.validation)]


@pytest.mark.slow
def test_a_plan_of_rows_is_set_while_members_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("validation.timesteps=2", "validation.max_images=3", "validation.batch_rows=4")
    pack = _pack(tmp_path, Spec("a", words), Spec("b", words))
    _woken(pack)
    plans: list[RowPlan] = []
    rows = pack.bank.rows
    monkeypatch.setattr(pack.bank, "rows", lambda plan: plans.append(plan) or rows(plan))
    Validator(pack).score(pack.members)
    assert [(plan.places, plan.counts) for plan in plans] == [((0, 1), (2, 2))] * 3
    assert {type(count) for plan in plans for count in plan.counts} == {int}


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"A card at {device}")
    assert device_name(torch.device("cpu")) == "cpu"
    assert device_name(torch.device("cuda:1")) == "A card at cuda:1"


@pytest.mark.slow
def test_each_image_is_told_by_name_and_the_mean_of_them_is_the_loss(tmp_path: Path) -> None:
    pack = _pack(tmp_path, Spec("a", OPTIONS), Spec("b", (*OPTIONS, "lora.rank=2")), Spec("c", OPTIONS))
    _woken(pack)
    task, members = pack.task, pack.members
    scores = Validator(pack).score(members)
    rows = task.fixed_rows(members[0], pack.dtypes.adapter)
    names = {record.shown for record in members[0].material.validation.records}
    for member in members:
        told = scores[member.name].by_item
        assert len(told.items) == 3
        assert set(told.items) == names
        assert told.rows == rows.digest()
        assert told.mean == pytest.approx(scores[member.name].relative, rel=1e-9)
        assert sum(told.base) / 3 == pytest.approx(1.0, rel=1e-9)
        with pack.bank.rows(RowPlan(places=(pack.bank.place(member.name),), counts=(len(rows),))), torch.no_grad():
            losses = task.losses(rows.inputs).view(3, 8).mean(1)  # images x timesteps
        base = scores[member.name].loss / scores[member.name].relative
        assert told.relative == pytest.approx((losses / base).tolist(), rel=1e-9)
    assert len({one.by_item.relative for one in scores.values()}) == 3


def test_rows_of_no_named_item_are_items_by_themselves_and_an_item_counts_by_its_rows() -> None:
    member: Any = SimpleNamespace(count=SimpleNamespace(step=2), samples=8)
    losses, base = torch.tensor([1.0, 2.0, 6.0]).double(), torch.tensor([2.0, 2.0, 2.0]).double()
    alone = _by_item(FixedRows(inputs={"x": torch.zeros(3)}, per_forward=1), "r", member, losses, base)
    assert (alone.items, alone.relative) == (("0", "1", "2"), (0.5, 1.0, 3.0))
    named = FixedRows(inputs={"x": torch.zeros(3)}, per_forward=1, items=("a", "b", "a"))
    told = _by_item(named, "r", member, losses, base)
    assert (told.items, told.relative) == (("a", "b"), (pytest.approx(7 / 3), pytest.approx(2 / 3)))
    assert told.mean == pytest.approx(alone.mean)
