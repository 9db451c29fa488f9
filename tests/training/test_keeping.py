"""The best adapters of a member stay, whatever ends it and whenever it is killed."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest

from lora_foundry.lora.formats.read import read_adapter
from lora_foundry.training.keeping import is_among_best, keep, settle, tidy
from lora_foundry.training.member import Counters, Member
from lora_foundry.training.validation import Measure, Score
from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.events import ArtifactEvent, LogEvent, MetricsEvent, StateEvent, TagsEvent
from tests.training.world import Spec, Trained, make_member, train

# At this rate the adapter gets worse at times, so that the best is not the last.
UNSTEADY = ("optimizer.lr=0.18", "scheduler=constant", "validation.every=1", "trainer.checkpoint_every=2")


def _score(relative: float) -> Score:
    by_item = ByItem(step=0, samples=0, rows="r", items=("a",), relative=(relative,), base=(1.0,))
    return Score(measures={"loss": Measure(value=relative / 2, relative=relative, by_group={})}, by_item=by_item)


def _exported(member: Member, step: int, relative: float) -> Path:
    """``member`` after ``step`` steps, its adapter written for its score where that is among the best."""
    member.count.step = step
    stem = f"x-step{step:06d}"
    file = member.folder / "adapter" / "best" / f"{stem}.safetensors"
    if is_among_best(member, _score(relative)):
        files = (file, file.parent / "diffusers" / file.name, file.with_suffix(".json"))
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("an adapter")
        keep(member, _score(relative), files)
    return file


def _there(member: Member) -> list[str]:
    return sorted(path.name for path in (member.folder / "adapter" / "best").rglob("*") if path.is_file())


def _marked(folder: Path) -> dict[str, object]:
    told: dict[str, object] = json.loads((folder / "adapter" / "best.json").read_text())
    return told


def _member(tmp_path: Path, *words: str) -> Member:
    return make_member(Spec("x", words), tmp_path)


def test_so_many_are_kept_as_asked_for_best_first_and_of_equals_the_first(tmp_path: Path) -> None:
    member = _member(tmp_path, "trainer.keep_best=2")
    for step, relative in ((1, 0.9), (2, 0.8), (3, 0.8), (4, 0.95), (5, float("nan")), (6, 0.85)):
        _exported(member, step, relative)
    assert [(one.step, one.relative) for one in member.count.kept] == [(2, 0.8), (3, 0.8)]
    assert _marked(member.folder) == {
        **{"step": 2, "val_loss": 0.4, "val_loss_rel": 0.8, "file": "best/x-step000002.safetensors"},
        "kept": [
            {"step": 2, "val_loss": 0.4, "val_loss_rel": 0.8, "file": "best/x-step000002.safetensors"},
            {"step": 3, "val_loss": 0.4, "val_loss_rel": 0.8, "file": "best/x-step000003.safetensors"},
        ],
    }
    tidy(member)
    assert _there(member) == sorted(
        name for step in (2, 3) for name in (*(f"x-step00000{step}.safetensors",) * 2, f"x-step00000{step}.json")
    )


def test_the_base_itself_is_not_an_adapter_to_keep(tmp_path: Path) -> None:
    assert not is_among_best(_member(tmp_path), _score(1.0))


def test_null_exports_nothing_for_its_score_and_marks_the_best_of_what_is_exported(tmp_path: Path) -> None:
    member = _member(tmp_path, "trainer.keep_best=null")
    _exported(member, 1, 0.9)
    assert not member.count.kept
    for step, relative in ((2, 0.8), (3, 0.85)):
        member.count.step = step
        keep(member, _score(relative), [member.folder / "adapter" / "steps" / f"x-step{step:06d}.safetensors"])
    assert _marked(member.folder)["file"] == "steps/x-step000002.safetensors"


def test_of_a_job_that_learns_from_every_image_the_last_is_kept(tmp_path: Path) -> None:
    member = _member(tmp_path, "data.val_path=null", "data.folds=2", "data.fold=all")
    for step, relative in ((2, 0.5), (4, 0.9)):
        member.count.step = step
        assert not is_among_best(member, _score(relative)), "its score says how well it knows its images by heart"
        file = member.folder / "adapter" / f"x-step{step}.safetensors"
        keep(member, _score(relative), (file, file.with_suffix(".json")))
    assert [one.step for one in member.count.kept] == [4]
    assert _marked(member.folder)["step"] == 4


def test_what_a_checkpoint_names_stays_until_none_does(tmp_path: Path) -> None:
    """A kill throws the member back to a checkpoint that knows nothing of the better ones."""
    member = _member(tmp_path)
    first = _exported(member, 1, 0.9)
    tidy(member, spared=member.saved)
    member.saved = tuple(member.count.kept)
    second = _exported(member, 2, 0.8)
    assert first.exists()
    tidy(member, spared=member.saved)
    assert (first.exists(), second.exists()) == (True, True)
    member.saved = tuple(member.count.kept)
    tidy(member, spared=member.saved)
    assert (first.exists(), second.exists()) == (False, True)


def test_a_member_that_was_thrown_back_has_the_best_of_then_and_later_files_wait_for_it(tmp_path: Path) -> None:
    member = _member(tmp_path)
    first = _exported(member, 1, 0.9)
    then = Counters.of(json.loads(json.dumps({"step": 1, "kept": [dict(_of(member))]})))
    second = _exported(member, 3, 0.8)
    member.count = then
    settle(member)
    assert _marked(member.folder)["step"] == 1
    tidy(member)
    assert (first.exists(), second.exists()) == (True, True)
    first.unlink()
    settle(member)  # somebody removed it
    assert not member.count.kept
    assert not (member.folder / "adapter" / "best.json").exists()


def _of(member: Member) -> dict[str, object]:
    (one,) = member.count.kept
    return {"step": one.step, "loss": one.loss, "relative": one.relative, "files": list(one.files)}


def losses_of(trained: Trained) -> dict[int, float]:
    """By step, of the first job's adapter alone."""
    told = [e for e in trained.events if isinstance(e, MetricsEvent) and e.job == 0 and e.step]
    return {e.step: float(str(e.values["val/loss_rel"])) for e in told if "val/loss_rel" in e.values}


def _files(root: Path) -> dict[str, bytes]:
    folder = root / "x" / "adapter"
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.suffix == ".safetensors"}


def _tensors(root: Path) -> dict[str, object]:
    folder = root / "x" / "adapter"
    return {name: {k: v.up.tolist() for k, v in read_adapter(folder / name).unet.items()} for name in _files(root)}


@pytest.mark.slow
def test_wherever_a_kill_comes_a_resumed_job_keeps_the_same_and_the_mark_names_a_file(tmp_path: Path) -> None:
    specs = [Spec("x", (*UNSTEADY, "trainer.max_steps=4", "trainer.keep_best=2"))]
    asks = count()
    whole = train(specs, tmp_path / "whole", stop=lambda: next(asks) < 0)
    losses = losses_of(whole)
    best = sorted(losses, key=lambda step: losses[step])[:2]
    kept = _marked(tmp_path / "whole" / "x")
    assert [one["step"] for one in kept["kept"]] == best  # type: ignore[attr-defined]
    assert best[0] != 4, "the last is the best: nothing is shown"
    end = next(e for e in whole.events if isinstance(e, StateEvent) and e.state == "FINISHED").summary
    assert end is not None
    assert (end.best_step, end.best_val_loss_rel, end.val_loss_rel) == (best[0], losses[best[0]], losses[4])
    assert end.compared == losses[best[0]]
    assert end.file_to_keep == f"x/adapter/best/x-step{best[0]:06d}.safetensors"
    for after in range(4, next(asks), 7):
        left = iter(range(after))
        root = tmp_path / str(after)
        train(specs, root, stop=lambda left=left: next(left, None) is None)
        if (mark := root / "x" / "adapter" / "best.json").exists():
            read_adapter(mark.parent / json.loads(mark.read_text())["file"])
        train(specs, root, resume=frozenset({"x"} if (root / "x" / "checkpoints").exists() else ()))
        assert _tensors(root) == _tensors(tmp_path / "whole"), after
        assert _marked(root / "x") == kept


@pytest.mark.slow
def test_one_that_leaves_early_keeps_its_best_and_its_run_is_told(tmp_path: Path) -> None:
    from lora_foundry.training.requests import Requests

    spec = Spec("x", (*UNSTEADY, "trainer.max_steps=6"))
    asked = count()
    trained = train([spec], tmp_path, requests=Requests(pruned=lambda: frozenset({0} if next(asked) > 2 else ())))
    assert trained.states(0)[-1] == "PRUNED"
    losses = losses_of(trained)
    step = min(losses, key=lambda step: losses[step])
    file = f"x/adapter/best/x-step{step:06d}.safetensors"
    read_adapter(tmp_path / file)
    assert {e.path for e in trained.events if isinstance(e, ArtifactEvent)} == {file, "x/adapter/best.json"}
    told = [e.values for e in trained.events if isinstance(e, TagsEvent) and "best_step" in e.values][-1]
    assert (told["best_step"], told["best_file"]) == (step, file)


@pytest.mark.slow
def test_the_copy_for_people_is_the_best_under_the_adapters_name(tmp_path: Path) -> None:
    """Its loss is lowest after three steps."""
    shelf = tmp_path / "Lora"
    shelf.mkdir()
    words = (*UNSTEADY, "trainer.max_steps=4", f"export.copy_to={shelf}")
    trained = train([Spec("x", words)], tmp_path / "sweep")
    assert trained.states(0)[-1] == "FINISHED"
    best, copy = (read_adapter(path).unet for path in (
        tmp_path / "sweep" / "x" / "adapter" / "best" / "x-step000003.safetensors", shelf / "x.safetensors"
    ))  # fmt: skip
    assert all(copy[name].up.equal(one.up) for name, one in best.items())
    assert any("x of step 3, its best, copied to" in e.message for e in trained.events if isinstance(e, LogEvent))
