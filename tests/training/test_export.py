"""Exported files give the live adapter's outputs, and a training can continue from them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lora_foundry.lora.formats import adapter as adapter_form
from lora_foundry.lora.formats.adapter import Adapter, ExportError
from lora_foundry.lora.formats.read import read_adapter
from lora_foundry.tasks.denoising import files as writing
from lora_foundry.training import export as exporting
from lora_foundry.training.continuing import start_from
from lora_foundry.training.export import export, file_metadata
from lora_foundry.training.pack import Pack
from lora_foundry.training.precision import DTYPES
from lora_foundry.training.shortage import OutOfMemoryError
from lora_foundry.wire.events import LogEvent, MetricsEvent, TagsEvent
from tests.training.world import Spec, make_member, make_task, train

VARIANTS = {
    "plain": (),
    "alpha unlike rank": ("lora.alpha=9",),
    "rslora": ("lora.use_rslora=true", "lora.alpha=2"),
    "convolutions": ("lora.target_modules=all",),
}


def _pack(root: Path, *overrides: str, name: str = "x") -> Pack:
    member = make_member(Spec(name, ("trainer.precision=32-true", *overrides)), root)
    pack = Pack(make_task(DTYPES[member.config.trainer.precision].base), [member])
    draw = torch.Generator().manual_seed(1)
    for value in pack.bank.unpack(pack.bank.weights[0], name).values():
        value.copy_(torch.randn(value.shape, generator=draw) * 0.1)
    return pack


def _begin(pack: Pack, path: Path) -> list[str]:
    """Set the pack's only member to what is in the file at ``path``."""
    member = pack.members[0]
    member.config = replace(member.config, lora=replace(member.config.lora, init_from=str(path)))
    return start_from(pack, member)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_files_are_checked_against_the_live_adapter_and_read_back(name: str, tmp_path: Path) -> None:
    pack = _pack(tmp_path, *VARIANTS[name])
    files = export(pack, pack.members[0], tmp_path, "x-final")
    assert files.file.name == "x-final.safetensors"
    assert files.for_code == tmp_path / "diffusers" / "x-final.safetensors"  # ComfyUI lists what lies beside the first
    assert files.card == tmp_path / "x-final.json"
    assert {path.name for path in tmp_path.glob("*.*")} == {"x-final.safetensors", "x-final.json"}
    for path in (files.file, files.for_code):
        other = _pack(tmp_path, *VARIANTS[name])
        with torch.no_grad():
            other.bank.weights.zero_()
        _begin(other, path)
        error = (other.bank.weights - pack.bank.weights).norm() / pack.bank.weights.norm()
        assert 0 < error < 1e-3  # fp16 in the file


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_base_in_fp16_is_given_the_same_files(name: str, tmp_path: Path) -> None:
    pack = _pack(tmp_path, *VARIANTS[name], "trainer.precision=16-mixed")
    files, plain = export(pack, pack.members[0], tmp_path, "x"), _pack(tmp_path, *VARIANTS[name])
    other = export(plain, plain.members[0], tmp_path / "plain", "x")
    assert _as_read(files.file) == _as_read(other.file)


@pytest.mark.slow
def test_a_wrong_file_of_a_base_in_fp16_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = _pack(tmp_path, "lora.alpha=9", "trainer.precision=16-mixed")
    monkeypatch.setattr(adapter_form, "effective_alpha", lambda _alpha, rank, **_: rank * 1.05)
    with pytest.raises(ExportError, match="differ from the live adapter"):
        export(pack, pack.members[0], tmp_path, "x")


def _as_read(path: Path) -> dict[str, bytes]:
    return {key: value.numpy().tobytes() for key, value in load_file(path).items()}


def test_a_file_says_how_often_the_images_of_kohyas_folders_counted(tmp_path: Path) -> None:
    pack = _pack(tmp_path)
    member = pack.members[0]
    train = member.material.train
    records = [replace(one, image=Path("/img/10_anna woman") / one.image, repeats=10) for one in train.records]
    train = replace(train, records=(*records[:4], *train.records[4:]))
    member.material = replace(member.material, train=train)
    meta = file_metadata(pack, member)
    assert meta.dataset_dirs == {"10_anna woman": 4, member.config.data.name: 2}
    assert meta.repeats == {"10_anna woman": 10, member.config.data.name: 1}
    assert meta.train_images == 42


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("scale", "differ from the live adapter"),
        ("transposed", "does not fit|differ"),
    ],
)
def test_a_wrong_file_does_not_count(fault: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is worth something only if a fault in what is written is caught."""
    pack = _pack(tmp_path, "lora.alpha=9")
    if fault == "scale":
        monkeypatch.setattr(adapter_form, "effective_alpha", lambda _alpha, rank, **_: float(rank))
    else:
        live = exporting.live_adapter

        def swapped(*arguments):  # noqa: ANN002, ANN202
            adapter = live(*arguments)
            name = next(n for n, w in adapter.unet.items() if w.down.shape[1] == w.up.shape[0])
            weights = adapter.unet[name]
            wrong = type(weights)(down=weights.up.T.contiguous(), up=weights.down.T.contiguous(), alpha=weights.alpha)
            return type(adapter)(unet={**adapter.unet, name: wrong})

        monkeypatch.setattr(exporting, "live_adapter", swapped)
    with pytest.raises(ExportError, match=message):
        export(pack, pack.members[0], tmp_path, "x")


@pytest.mark.slow
@pytest.mark.parametrize("written", ["write_kohya", "write_diffusers"])
def test_each_file_is_tried_on_the_base(written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One trial stands for both files only where both hold the same numbers."""
    pack = _pack(tmp_path)
    write = getattr(writing, written)

    def halved(path: Path, adapter: Adapter, *rest: Any) -> None:
        weights = {name: replace(one, alpha=one.alpha / 2) for name, one in adapter.unet.items()}
        write(path, Adapter(unet=weights), *rest)

    monkeypatch.setattr(exporting, "check_written", lambda path, _, names: read_adapter(path, names))
    export(pack, pack.members[0], tmp_path, "sound")
    monkeypatch.setattr(writing, written, halved)
    with pytest.raises(ExportError, match="differ from the live adapter"):
        export(pack, pack.members[0], tmp_path, "x")


@pytest.mark.slow
def test_members_that_share_a_forward_have_the_outputs_that_each_has_alone(tmp_path: Path) -> None:
    specs = [Spec(f"m{rank}", ("trainer.precision=64-true", f"lora.rank={rank}")) for rank in (2, 3, 5)]
    pack = Pack(make_task(torch.float64), [make_member(spec, tmp_path) for spec in specs])
    pack.bank.weights.copy_(torch.randn(pack.bank.weights.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
    before = pack.bank.weights.clone()
    together = exporting.live_outputs(pack, pack.members)
    for member in pack.members:
        alone = exporting.live_outputs(pack, [member])[member.name]
        assert torch.allclose(together[member.name].exact, alone.exact, rtol=0, atol=1e-12)
        assert torch.allclose(together[member.name].rounded, alone.rounded, rtol=0, atol=1e-12)
        assert 1e-6 < float((alone.exact - alone.rounded).abs().max()) < 1e-2
    assert torch.equal(pack.bank.weights, before)


@pytest.mark.slow
def test_members_share_fewer_forwards_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [Spec(f"m{n}", ("trainer.precision=64-true",)) for n in range(4)]
    pack = Pack(make_task(torch.float64), [make_member(spec, tmp_path) for spec in specs])
    plenty = exporting.live_outputs(pack, pack.members)
    refused: list[int] = []

    def alarm() -> None:
        if pack.bank._forward is not None and (members := len(pack.bank._forward.plan.places)) > 1:
            refused.append(members)
            raise OutOfMemoryError("short")

    monkeypatch.setattr(pack.relief, "check", alarm)
    short = exporting.live_outputs(pack, pack.members)
    assert refused == [4, 2], "found out once"
    for name, outputs in plenty.items():
        assert torch.allclose(short[name].rounded, outputs.rounded, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_a_strong_adapter_is_exported_although_fp16_rounds_it(tmp_path: Path) -> None:
    """Rounding is no fault of the file: it is told, and does not fail the job."""
    pack = _pack(tmp_path)
    with torch.no_grad():
        pack.bank.weights.mul_(20)
    before = pack.bank.weights.clone()
    assert export(pack, pack.members[0], tmp_path, "x").rounding > exporting.ROUNDING_TOLD
    assert torch.equal(pack.bank.weights, before)


@pytest.mark.slow
def test_a_failed_export_along_the_way_is_told_and_a_failed_last_one_fails_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_sidecar", full)
    trained = train([Spec("x", ("trainer.save_every=3", "trainer.max_steps=7"))], tmp_path)
    told = [e.message for e in trained.events if isinstance(e, LogEvent) and e.level == "warning"]
    assert len([line for line in told if "No space left" in line]) == 2
    assert trained.states(0)[-1] == "FAILED"
    assert trained.parts["x"].count.step == 7  # nothing is lost: resume= exports again


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "best_step"), [(0.01, 7), (1.0, 6)])
def test_adapters_along_the_way_and_the_best_is_marked(rate: float, best_step: int, tmp_path: Path) -> None:
    """At the higher rate the adapter gets worse, so that an earlier file is the best."""
    options = ("trainer.save_every=3", f"optimizer.lr={rate}", "trainer.max_steps=7", "scheduler=constant")
    trained = train([Spec("x", options)], tmp_path)
    folder = tmp_path / "x" / "adapter"
    assert sorted(p.name for p in (folder / "steps").glob("*.safetensors")) == [
        "x-step000003.safetensors",
        "x-step000006.safetensors",
    ]
    losses = {
        e.step: e.values["val/loss"] for e in trained.events if isinstance(e, MetricsEvent) and "val/loss" in e.values
    }
    best = json.loads((folder / "best.json").read_text())
    assert best["step"] == best_step == min((3, 6, 7), key=lambda step: losses[step])
    assert (folder / best["file"]).exists()
    assert read_adapter(folder / "x.safetensors").unet.keys() == read_adapter(folder / best["file"]).unet.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("targets", "told"), [("all", True), ("all-linear", True), ("all-blocks", False)])
def test_layers_that_kohyas_tools_leave_out_are_told_with_the_file(targets: str, told: bool, tmp_path: Path) -> None:
    trained = train([Spec("x", (f"lora.target_modules={targets}", "trainer.max_steps=3"))], tmp_path)
    tags = [e.values for e in trained.events if isinstance(e, TagsEvent)]
    found = [values["warning.kohya"] for values in tags if "warning.kohya" in values]
    assert bool(found) == told
    assert all("time_embedding.linear_1" in text and "lora.target_modules=all-blocks" in text for text in found)


@pytest.mark.slow
def test_a_finished_adapter_is_copied_and_a_copy_that_fails_does_not_fail_the_job(tmp_path: Path) -> None:
    shelf = tmp_path / "Lora"
    shelf.mkdir()
    (shelf / "x.safetensors").write_text("another's")
    specs = [
        Spec("x", (f"export.copy_to={shelf}", "trainer.max_steps=3")),
        Spec("y", (f"export.copy_to={tmp_path / 'gone'}", "trainer.max_steps=3")),
    ]
    trained = train(specs, tmp_path / "sweep")
    assert [trained.states(job)[-1] for job in (0, 1)] == ["FINISHED", "FINISHED"]
    assert (shelf / "x.safetensors").read_text() == "another's"
    assert (
        read_adapter(shelf / "x-2.safetensors").unet.keys()
        == read_adapter(tmp_path / "sweep/x/adapter/x.safetensors").unet.keys()
    )
    tagged = [e for e in trained.events if isinstance(e, TagsEvent) and "warning.copy" in e.values]
    told = {e.job: e.values["warning.copy"] for e in tagged}
    assert "the copy of x is called x-2.safetensors" in told[0]
    assert "y: not copied" in told[1]


@pytest.mark.slow
def test_files_of_a_training_are_made_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        train([Spec("x", ("trainer.max_steps=3", "trainer.save_every=2"))], tmp_path / "sweep")
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "sweep").rglob("*") if path.is_file()]
    assert len(files) > 8
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o640"}


@pytest.mark.slow
def test_what_an_earlier_version_put_beside_the_file_goes_when_it_is_exported_again(tmp_path: Path) -> None:
    pack = _pack(tmp_path)
    old, others = tmp_path / "x.diffusers.safetensors", tmp_path / "y.diffusers.safetensors"
    old.write_text("of before")
    others.write_text("another job's")
    export(pack, pack.members[0], tmp_path, "x")
    assert not old.exists()
    assert others.exists()
