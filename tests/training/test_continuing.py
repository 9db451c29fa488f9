"""A training that begins with an adapter's file: every part of the file is used or refused, before the base loads."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_foundry.lora.formats.adapter import Adapter
from lora_foundry.lora.formats.apply import merged
from lora_foundry.training.continuing import StartError, check_start, start_from
from lora_foundry.training.export import export, live_adapter
from lora_foundry.training.pack import Pack
from lora_foundry.training.preparing import check_jobs
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.commands import PackedJob
from lora_foundry.wire.events import StateEvent, TagsEvent
from tests.phrases import NO_ADAPTER_FILE
from tests.training.world import Spec, make_denoiser, make_member, make_task, train

PRESET = "lora.target_modules=attention-mlp"


def make_pack(root: Path, *overrides: str, name: str = "x") -> Pack:
    spec = Spec(name, ("trainer.precision=32-true", PRESET, *overrides))
    pack = Pack(make_task(torch.float32), [make_member(spec, root)])
    draw = torch.Generator().manual_seed(1)
    for value in pack.bank.unpack(pack.bank.weights[0], name).values():
        value.copy_(torch.randn(value.shape, generator=draw) * 0.1)
    return pack


def begin(pack: Pack, path: Path) -> list[str]:
    member = pack.members[0]
    member.config = replace(member.config, lora=replace(member.config.lora, init_from=str(path)))
    return start_from(pack, member)


def updates(adapter: Adapter) -> dict[str, torch.Tensor]:
    shapes = {name: (w.up.shape[0], *w.down.shape[1:]) for name, w in adapter.unet.items()}
    return {name: merged(torch.zeros(shapes[name]).double(), w) for name, w in adapter.unet.items()}


def apart(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    square = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return math.sqrt(square / sum(float(update.square().sum()) for update in one.values()))


class Files:
    """A base known by its layers."""

    def layers(self) -> dict[str, tuple[int, ...]]:
        denoiser = make_denoiser(torch.float32)
        return {name: tuple(denoiser.module.get_submodule(name).weight.shape) for name in denoiser.layers}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An adapter of rank 4 over ``attention-mlp``."""
    pack = make_pack(tmp_path)
    return export(pack, pack.members[0], tmp_path, "x").file


def changed(path: Path, change: Any) -> Path:
    """``path`` with its tensors changed."""
    content = load_file(path)
    change(content)
    save_file(content, path)
    return path


@pytest.mark.slow
def test_a_file_of_another_width_is_an_error_of_that_member_alone(file: Path, tmp_path: Path) -> None:
    def narrow(content: dict[str, torch.Tensor]) -> None:
        key = next(k for k in content if k.endswith("lora_down.weight") and content[k].ndim == 2)
        content[key] = content[key][:, :-1].contiguous()

    trained = train([Spec("bad", (f"lora.init_from={changed(file, narrow)}",)), Spec("mate")], tmp_path)
    assert trained.states(0) == ["FAILED"]
    assert trained.states(1)[-1] == "FINISHED"


@pytest.mark.slow
def test_other_targets_are_refused_with_the_preset_that_fits(file: Path, tmp_path: Path) -> None:
    other = make_pack(tmp_path, "lora.target_modules=[to_q]")
    with pytest.raises(StartError, match=r"give lora\.target_modules=attention-mlp"):
        begin(other, file)


@pytest.mark.slow
def test_the_update_is_kept_when_alpha_changes(tmp_path: Path) -> None:
    pack = make_pack(tmp_path, "lora.alpha=4")
    path = export(pack, pack.members[0], tmp_path, "x").file
    other = make_pack(tmp_path, "lora.alpha=16")
    assert begin(other, path) == []
    one, two = (live_adapter(p, p.members[0]) for p in (pack, other))
    assert apart(updates(one), updates(two)) < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("alpha", ["9", "1"])
def test_a_larger_rank_begins_with_exactly_the_files_update(alpha: str, file: Path, tmp_path: Path) -> None:
    other = make_pack(tmp_path, "lora.rank=7", f"lora.alpha={alpha}")
    assert begin(other, file) == []
    from_file = make_pack(tmp_path)
    begin(from_file, file)
    one, two = (live_adapter(p, p.members[0]) for p in (from_file, other))
    assert apart(updates(one), updates(two)) < 1e-6
    assert all(weights.down[4:].any() for weights in two.unet.values()), "so that the new rows can learn"


@pytest.mark.slow
def test_a_smaller_rank_begins_as_near_as_it_can_and_says_how_near(file: Path, tmp_path: Path) -> None:
    other = make_pack(tmp_path, "lora.rank=2", "lora.alpha=5")
    (told,) = begin(other, file)
    from_file = make_pack(tmp_path)
    begin(from_file, file)
    one, two = (updates(live_adapter(p, p.members[0])) for p in (from_file, other))
    values = {name: torch.linalg.svdvals(update.flatten(1)) for name, update in one.items()}
    least = sum(float(v[2:].square().sum()) for v in values.values())  # Eckart & Young 1936
    whole = sum(float(v.square().sum()) for v in values.values())
    assert apart(one, two) == pytest.approx(math.sqrt(least / whole), rel=1e-5)
    assert f"begins {math.sqrt(least / whole):.1%} away" in told


@pytest.mark.slow
def test_a_smaller_rank_is_warned_of_on_the_run(file: Path, tmp_path: Path) -> None:
    trained = train([Spec("x", (PRESET, f"lora.init_from={file}", "lora.rank=2"))], tmp_path / "two")
    tags = [e.values for e in trained.events if isinstance(e, TagsEvent)]
    assert any("brought down to lora.rank=2" in values.get("warning.init-from-rank", "") for values in tags)
    assert trained.states(0)[-1] == "FINISHED"


def poison(content: dict[str, torch.Tensor]) -> None:
    next(tensor for key, tensor in content.items() if "lora_up" in key).view(-1)[3] = math.nan


def still(content: dict[str, torch.Tensor]) -> None:
    for key in content:
        if key.endswith(".alpha"):
            content[key] = torch.tensor(0.0)


def with_magnitudes(content: dict[str, torch.Tensor]) -> None:
    for key in [key for key in content if key.endswith("lora_up.weight")]:
        content[key.replace("lora_up.weight", "dora_scale")] = torch.ones(content[key].shape[0], 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (poison, "NaN or infinity in 1 of its tensors"),
        (still, "alpha is 0 in 30 of its layers"),
        (with_magnitudes, "it is DoRA"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused_before_the_base_is_loaded(
    fault: Any, says: str, file: Path, tmp_path: Path
) -> None:
    path = changed(file, fault)
    lora = Spec("x", (PRESET, f"lora.init_from={path}")).config().lora
    with pytest.raises(StartError, match=says):
        check_start(lora, tmp_path, Files())  # type: ignore[arg-type]  # all that is asked of it


@pytest.mark.slow
def test_an_embedding_in_the_file_is_told_and_the_rest_is_used(file: Path, tmp_path: Path) -> None:
    path = changed(file, lambda content: content.update({"bundle_emb.tok.string_to_param.*": torch.ones(2, 4)}))
    lora = Spec("x", (PRESET, f"lora.init_from={path}")).config().lora
    (line,) = check_start(lora, tmp_path, Files())  # type: ignore[arg-type]
    assert "its embedding (bundle_emb.tok.string_to_param.*) is not used" in line


@pytest.mark.slow
@pytest.mark.parametrize(("words", "refused"), [(["optimizer.lr=1"], True), (["lora.rank=8"], False)])
def test_another_rank_is_refused_where_the_rank_is_only_the_default(
    words: list[str], refused: bool, file: Path, tmp_path: Path
) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(json.dumps(words))
    lora = Spec("x", (PRESET, f"lora.init_from={file}", "lora.rank=8")).config().lora
    if refused:
        with pytest.raises(StartError, match=r"has rank 4, lora\.rank=8 is only the default; give lora\.rank=4"):
            check_start(lora, tmp_path, Files())  # type: ignore[arg-type]
    else:
        assert check_start(lora, tmp_path, Files()) == []  # type: ignore[arg-type]


class Bases:
    """Finds that base, and cannot load it."""

    device = torch.device("cpu")

    def files(self, _config: object) -> Files:
        return Files()


@pytest.mark.slow
def test_a_job_with_a_wrong_file_or_wrong_targets_fails_before_its_base_is_loaded(tmp_path: Path) -> None:
    sink = ListSink(tmp_path)
    for number, key in enumerate(("lora.init_from=none.safetensors", "lora.target_modules=[to_x]")):
        write_job(tmp_path / str(number), key)
    jobs = [PackedJob(job=n, dir=tmp_path / str(n), name=f"x{n}", resume=False) for n in (0, 1)]
    assert check_jobs(jobs, Bases(), sink) == []  # type: ignore[arg-type]
    errors = [event.error for event in sink.events if isinstance(event, StateEvent)]
    assert NO_ADAPTER_FILE in errors[0]
    assert "'to_x'" in errors[1]


def write_job(folder: Path, *overrides: str) -> None:
    (folder / ".hydra").mkdir(parents=True)
    config = Spec("x", overrides).config()
    (folder / ".hydra" / "config.yaml").write_text(json.dumps(dataclasses.asdict(config)))
