"""What is free and what caches hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_foundry.config.compose import compose_job
from lora_foundry.doctor import places
from lora_foundry.doctor.places import places_of, tight
from lora_foundry.doctor.report import Place


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(places, "_hub", lambda: tmp_path / "hub")
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


@pytest.mark.slow
def test_a_cache_is_counted_as_its_disk_does_and_links_are_not(hub: Path, tmp_path: Path) -> None:
    (hub / "blob").write_bytes(os.urandom(20_000))
    (hub / "snapshot").symlink_to(hub / "blob")
    config = compose_job(f"tracking.root={tmp_path}/runs", f"data.cache_dir={tmp_path}/none")
    sweeps, runs, own, theirs = places_of(config, tmp_path / "multirun")
    assert (sweeps.folder, runs.folder) == (f"{tmp_path}/multirun", f"{tmp_path}/runs")
    assert sweeps.free is not None
    assert sweeps.size is None
    assert own.size == 0
    assert theirs.size in range(20_000, 30_000)
    assert len(places_of(compose_job("tracking=none"), tmp_path)) == 3, "nothing is recorded"


def test_a_folder_of_too_many_files_is_not_counted_to_its_end(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (hub / str(number)).write_bytes(b"x" * 5000)
    monkeypatch.setattr(places, "_COUNTING_S", -1.0)
    found = places._cache("models", hub)
    assert not found.counted
    assert found.size == (hub / "0").stat().st_blocks * 512


def test_a_disk_with_little_space_is_told_once(tmp_path: Path) -> None:
    def place(name: str, free: int | None) -> Place:
        return Place(what="sweeps", folder=str(tmp_path / name), free=free)

    (line,) = tight((place("a", 2**30), place("b", 2**30), place("c", None)))
    assert line.startswith(f"{tmp_path / 'a'}: 1.0 GiB free")
    assert tight((place("a", 2**32),)) == []
