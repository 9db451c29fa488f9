"""``made_with.json``: what decided an adapter, recorded at its job's start and end."""

from __future__ import annotations

import dataclasses
import os
from itertools import count
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lora_foundry.config.digest import config_digest
from lora_foundry.config.made_with import FILE, MadeWith, read_made_with, write_made_with
from lora_foundry.data.inventory import changed_since, take_inventory
from lora_foundry.training.callbacks import arriving
from lora_foundry.training.member import Member
from lora_foundry.wire.events import StateEvent
from tests.training import world
from tests.training.world import DATA_HASH, Spec, train

SPEC = Spec("a", ("trainer.checkpoint_every=1",))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data that the members of this test say they were made of."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.png").write_bytes(name.encode())
        (folder / f"{name}.txt").write_text(f"photo {name}")
    real = world.make_member

    def make_member(spec: Spec, root: Path, job: int = 0) -> Member:
        member = real(spec, root, job)
        data = dataclasses.replace(member.config.data, path=str(folder), val_path=None)
        where = dataclasses.replace(member.provenance, inventory=take_inventory(data, []))
        member.provenance = where
        return member

    monkeypatch.setattr(world, "make_member", make_member)
    return folder


@pytest.mark.slow
def test_a_job_records_what_decides_its_adapter_and_when_it_was_exported(photos: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    asked = count()
    train([SPEC], sweep, stop=lambda: next(asked) > 4)
    begun = read_made_with(sweep / "a")
    assert begun is not None
    assert begun.ended is None
    assert begun.asked == begun.config == config_digest(SPEC.config())
    assert (begun.base, begun.data) == ("b" * 64, DATA_HASH)
    assert begun.code
    file = begun.inventory_file(sweep / "a")
    assert file is not None
    assert file.parent == sweep / "data"
    assert changed_since(file, Path.cwd()) == []

    moved = sweep.rename(tmp_path / "elsewhere")
    train([SPEC], moved, resume=frozenset({"a"}))
    ended = read_made_with(moved / "a")
    assert ended is not None
    assert ended.ended is not None
    assert ended.ended >= ended.started >= begun.started
    file = ended.inventory_file(moved / "a")
    assert file is not None
    assert file.is_relative_to(moved)
    assert changed_since(file, Path.cwd()) == []
    assert photos.is_dir()


@pytest.mark.slow
def test_jobs_on_one_data_set_share_its_inventory(photos: Path, tmp_path: Path) -> None:
    train([SPEC, dataclasses.replace(SPEC, name="b")], tmp_path / "sweep")
    assert len(list((tmp_path / "sweep" / "data").iterdir())) == 1
    assert photos.is_dir()


@pytest.mark.slow
def test_the_worker_says_what_changed_and_keeps_the_record_of_what_it_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = tmp_path / "sweep"
    train([SPEC], sweep)
    recorded = (sweep / "a" / FILE).read_text()
    (photos / "b.png").write_bytes(b"other")
    (photos / "c.txt").write_text("another word")
    monkeypatch.setattr(world, "DATA_HASH", "e" * 64)
    for _ in range(2):
        resumed = train([SPEC], sweep, resume=frozenset({"a"}))
        (error,) = (e.error for e in resumed.events if isinstance(e, StateEvent))
        assert f"other data (data.path ({photos}): 1 file altered (b.png), 1 caption altered (c.png))" in error
        assert (sweep / "a" / FILE).read_text() == recorded


@pytest.mark.slow
def test_a_shortage_that_changed_the_job_leaves_both_digests(photos: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    (sweep / "a" / ".hydra").mkdir(parents=True)
    config = SPEC.config()
    OmegaConf.save(OmegaConf.create(dataclasses.asdict(config)), sweep / "a" / ".hydra" / "config.yaml")
    (sweep / "a" / "memory.json").write_text('{"lora.rank": 2, "lora.alpha": 2.0}')
    train([Spec("a", ("lora.rank=2",))], sweep)
    made = read_made_with(sweep / "a")
    assert made is not None
    assert made.asked == config_digest(config)
    assert made.config == config_digest(Spec("a", ("lora.rank=2",)).config()) != made.asked
    assert photos.is_dir()


@pytest.mark.slow
def test_a_record_that_cannot_be_written_stops_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(arriving, "note_start", full)
    trained = train([SPEC], tmp_path)
    assert trained.states(0)[-1] == "FINISHED"
    assert any("what it trains with was not recorded" in getattr(e, "message", "") for e in trained.events)


@pytest.mark.parametrize("harm", ["torn", "of a later version", "foreign"])
def test_a_record_that_cannot_be_read_is_no_record(harm: str, tmp_path: Path) -> None:
    made = MadeWith(asked="a", config="a", base="b", data="d", inventory=None, code="c", started=1.0)
    write_made_with(tmp_path, made)
    assert read_made_with(tmp_path) == made
    text = (tmp_path / FILE).read_text()
    changed = {"torn": text[:30], "of a later version": text.replace('"format": 1', '"format": 2'), "foreign": "[1]"}
    (tmp_path / FILE).write_text(changed[harm])
    assert read_made_with(tmp_path) is None
