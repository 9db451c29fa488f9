"""Checkpoints: atomic, readable alone, and a resumed member ends bitwise where it would have."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest
import torch

from lora_foundry.training import checkpoint
from lora_foundry.training.checkpoint import CheckpointError, load_newest, parts, read_part
from lora_foundry.wire.events import ArtifactEvent, MetricsEvent, StateEvent
from tests.training import world
from tests.training.world import Spec, Trained, train

SPECS = [
    Spec("a", ("lora.dropout=0.2", "trainer.accumulate=2", "trainer.checkpoint_every=1")),
    Spec("b", ("seed=3", "data.batch_size=1", "trainer.checkpoint_every=1", "optimizer=prodigy")),
    Spec("c", ("seed=4", "trainer.checkpoint_every=1", "optimizer=adafactor", "trainer.max_steps=6")),
]


def _stopped(root: Path, after: int) -> Trained:
    asked = count()
    return train(SPECS, root, stop=lambda: next(asked) > after)


def _same(one: Trained, other: Trained) -> None:
    for spec in SPECS:
        for key, value in one.weights(spec.name).items():
            assert torch.equal(value, other.weights(spec.name)[key]), (spec.name, key)


@pytest.mark.slow
def test_a_resumed_pack_ends_bitwise_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train(SPECS, tmp_path / "whole")
    stopped = _stopped(tmp_path / "cut", after=12)
    assert {stopped.states(job)[-1] for job in range(3)} == {"KILLED"}
    assert 0 < stopped.parts["b"].count.step < 8
    names = frozenset(spec.name for spec in SPECS)
    _same(train(SPECS, tmp_path / "cut", resume=names), whole)
    again = train(SPECS, tmp_path / "cut", resume=names)  # everything is done: the files are made again
    _same(again, whole)
    assert [again.states(job)[-1] for job in range(3)] == ["FINISHED"] * 3


def _told(*trainings: Trained) -> set[tuple[object, ...]]:
    """Points of metrics and names of files, over all trainings."""
    events = [event for trained in trainings for event in trained.events]
    points = {(e.job, key, e.samples) for e in events if isinstance(e, MetricsEvent) for key in e.values}
    return points | {(e.job, e.path) for e in events if isinstance(e, ArtifactEvent)}


@pytest.mark.slow
def test_wherever_a_stop_comes_no_metric_and_no_file_is_left_out(tmp_path: Path) -> None:
    """Also between a step and its validation, or its export."""
    said = ("trainer.log_every=1", "validation.every=2", "trainer.save_every=3", "trainer.max_steps=4")
    said += ("lora.target_modules=[to_q]",)  # soon injected and exported
    specs = [Spec("a", said), Spec("b", (*said, "seed=1", "trainer.accumulate=2"))]
    asks = count()
    whole = train(specs, tmp_path / "whole", stop=lambda: next(asks) < 0)
    in_between = 0
    for after in range(2, next(asks), 4):
        left = iter(range(after))
        cut = train(specs, tmp_path / str(after), stop=lambda left=left: next(left, None) is None)
        in_between += any(part.count.told != part.count.step and not part.count.micro for part in cut.parts.values())
        names = frozenset(cut.parts)
        assert _told(cut, train(specs, tmp_path / str(after), resume=names)) == _told(whole), after
    assert in_between, "a stop came between a step and what is told of it"


@pytest.mark.slow
def test_the_middle_of_an_accumulation_is_kept(tmp_path: Path) -> None:
    """A member that accumulates has a gradient that no step has used yet."""
    tries = (_stopped(tmp_path / str(after), after) for after in range(6, 20))
    stopped = next(one for one in tries if one.parts and one.parts["a"].count.micro)
    assert stopped.parts["a"].gradients.keys() == stopped.parts["a"].weights.keys()
    assert not stopped.parts["b"].gradients


@pytest.mark.slow
def test_the_manifest_names_every_part_of_one_cut(tmp_path: Path) -> None:
    stopped = _stopped(tmp_path, 12)
    manifest = json.loads(sorted((tmp_path / "pack").glob("manifest-*.json"))[-1].read_text())
    assert manifest["members"].keys() == {"a", "b", "c"}
    for name, entry in manifest["members"].items():
        assert read_part(tmp_path / entry["file"]).count == stopped.parts[name].count
    assert len(list((tmp_path / "pack").glob("manifest-*.json"))) == 2


@pytest.mark.slow
def test_the_newest_manifest_is_the_last_one_written(tmp_path: Path) -> None:
    """Also after the fastest member has left."""
    fast = Spec("fast", ("data.batch_size=4", "trainer.max_steps=3", "trainer.checkpoint_every=1"))
    train([fast, Spec("slow", ("data.batch_size=1", "trainer.checkpoint_every=1"))], tmp_path)
    newest = sorted((tmp_path / "pack").glob("manifest-*.json"))[-1]
    members = json.loads(newest.read_text())["members"]
    assert members.keys() == {"slow"}
    assert members["slow"]["file"] == "slow/checkpoints/step-00000008.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["torn", "altered", "foreign", "empty", "a folder"])
def test_a_bad_file_is_noticed_and_the_one_before_is_used(harm: str, tmp_path: Path) -> None:
    _stopped(tmp_path, 12)
    newest, before = parts(tmp_path / "a" / "checkpoints")
    content = bytearray(newest.read_bytes())
    if harm == "torn":
        content = content[: len(content) // 2]
    elif harm == "altered":
        content[-3] ^= 1
    elif harm in ("empty", "a folder"):
        content.clear()
    else:
        content = bytearray(content.replace(b"lora-foundry/member/3", b"lora-foundry/member/9"))
    newest.write_bytes(content)
    if harm == "a folder":
        newest.unlink()
        newest.mkdir()
    _, used, complaints = load_newest(tmp_path / "a" / "checkpoints")
    assert used == before
    assert newest.name in complaints[0]


@pytest.mark.slow
def test_a_full_disk_stops_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = count()
    write = checkpoint.write_atomic

    def full(path: Path, content: bytes | str) -> None:
        if next(written) in range(3, 6):
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    trained = train(SPECS, tmp_path)
    assert trained.states(0)[-1] == "FINISHED"
    assert any("No space left" in getattr(e, "message", "") for e in trained.events)


@pytest.mark.slow
def test_another_configuration_is_refused(tmp_path: Path) -> None:
    train([SPECS[0]], tmp_path)
    changed = Spec("a", (*SPECS[0].overrides, "optimizer.lr=0.5"))
    resumed = train([changed], tmp_path, resume=frozenset({"a"}))
    assert resumed.states(0) == ["FAILED"]
    error = next(e.error for e in resumed.events if isinstance(e, StateEvent))
    assert "another configuration" in error


@pytest.mark.slow
def test_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train([SPECS[0]], tmp_path)
    monkeypatch.setattr(world, "DATA_HASH", "e" * 64)
    resumed = train([SPECS[0]], tmp_path, resume=frozenset({"a"}))
    assert resumed.states(0) == ["FAILED"]
    assert any("other data" in str(getattr(e, "error", None)) for e in resumed.events)


@pytest.mark.slow
def test_dropout_of_earlier_streams_is_refused_and_mates_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a checkpoint was written before streams had versions."""
    with monkeypatch.context() as earlier:
        written = checkpoint.save

        def without(tensors: dict[str, torch.Tensor], header: dict[str, str]) -> bytes:
            header = {key: value for key, value in header.items() if key not in ("streams", "digest")}
            return written(tensors, {**header, "digest": checkpoint._digest(tensors, header)})

        earlier.setattr(checkpoint, "save", without)
        _stopped(tmp_path, after=12)
    resumed = train(SPECS, tmp_path, resume=frozenset(spec.name for spec in SPECS))
    assert [resumed.states(job)[-1] for job in range(3)] == ["FAILED", "FINISHED", "FINISHED"]
    error = next(e.error for e in resumed.events if isinstance(e, StateEvent) and e.state == "FAILED")
    assert error is not None
    assert error.startswith("a: its LoRA dropout was drawn by version 1 of the random streams")
    assert "start anew" in error


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1, 3])
def test_a_stop_before_the_first_step_ends_at_once(asked: int, tmp_path: Path) -> None:
    asks = count()
    trained = train([SPECS[1]], tmp_path, stop=lambda: next(asks) >= asked)
    assert trained.states(0) == ["RUNNING", "KILLED"]
    assert not trained.parts


@pytest.mark.slow
def test_a_member_whose_folder_cannot_be_written_costs_no_mate_its_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "checkpoints").write_text("in the way")
    asks = count()
    with pytest.raises(CheckpointError):  # b has none; world.train reads all
        train(SPECS, tmp_path, stop=lambda: next(asks) > 12)
    assert read_part(parts(tmp_path / "a" / "checkpoints")[0]).count.step > 0


def test_no_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to continue from"):
        load_newest(tmp_path)
