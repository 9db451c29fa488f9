"""How many workers the CPU gets where the user did not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.machines.devices import Gpu
from lora_foundry.launch.machines.engines import engine_of
from lora_foundry.launch.machines.workers import with_slots
from tests.launch.fake_nvml import see
from tests.launch.jobs import job

GIB = 2**30


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four cores, 20 GiB and no GPU."""
    monkeypatch.setattr("lora_foundry.launch.machines.workers.cores", lambda: 4)
    monkeypatch.setattr("lora_foundry.launch.machines.workers.memory_left", lambda: 20 * GIB)
    see(monkeypatch)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def _base(folder: Path, size: int) -> str:
    (folder / "unet").mkdir(parents=True)
    with (folder / "unet" / "diffusion_pytorch_model.safetensors").open("wb") as file:
        file.truncate(size)  # a hole: no disk is taken
    return str(folder)


def _jobs(count: int, path: str = "assets/tiny-sd", **changes: object) -> list[JobConfig]:
    return [job(seed=number, model__path=path, **changes) for number in range(count)]


def _slots(configs: list[JobConfig], settings: Settings | None = None) -> int | None:
    settings = settings or Settings()
    return with_slots(settings, engine_of(settings), configs).slots


@pytest.mark.parametrize(("jobs", "workers"), [(1, 1), (3, 1), (7, 1), (8, 2), (9, 2), (16, 4), (100, 4)])
def test_a_worker_for_every_four_jobs_but_no_more_than_cores(jobs: int, workers: int) -> None:
    assert _slots(_jobs(jobs)) == workers


def test_what_the_user_says_is_kept() -> None:
    assert _slots(_jobs(16), Settings(slots=1)) == 1
    assert _slots(_jobs(1), Settings(slots=3)) == 3
    assert _slots(_jobs(16), Settings(pack_size=1)) == 1, "one at a time"
    assert _slots(_jobs(16, memory__limit_gib=4.0)) == 1, "a limit is of one worker"


@pytest.mark.parametrize(("asked", "workers"), [("1", 1), ("2", 2), ("8", 4), ("0", 4), ("many", 4)])
def test_no_more_threads_than_the_user_allows(monkeypatch: pytest.MonkeyPatch, asked: str, workers: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert _slots(_jobs(16)) == workers


@pytest.mark.parametrize(("room", "workers"), [(None, 1), (1, 1), (5, 2), (8, 3)])
def test_no_more_than_the_memory_holds(monkeypatch: pytest.MonkeyPatch, room: int | None, workers: int) -> None:
    monkeypatch.setattr(
        "lora_foundry.launch.machines.workers.memory_left", lambda: None if room is None else room * GIB
    )
    assert _slots(_jobs(16)) == workers


def test_a_large_base_and_one_that_is_not_here_are_trained_by_one_worker(tmp_path: Path) -> None:
    small, large = _base(tmp_path / "small", 200 * 2**20), _base(tmp_path / "large", 300 * 2**20)
    assert _slots(_jobs(16, small)) == 4
    assert _slots(_jobs(16, f"{small}/unet/diffusion_pytorch_model.safetensors")) == 4
    assert _slots(_jobs(16, large)) == 1
    assert _slots([*_jobs(16, small), *_jobs(1, large)]) == 1
    assert _slots(_jobs(16, "stable-diffusion-v1-5/stable-diffusion-v1-5")) == 1


def test_gpus_have_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [Gpu(index=n, uuid=f"GPU-{n}", name="A card", total=GIB, free=GIB) for n in range(2)]
    see(monkeypatch, *cards[:1])
    assert _slots(_jobs(16, trainer__accelerator="auto")) == 1
    assert _slots(_jobs(16, trainer__accelerator="cpu")) == 4
    see(monkeypatch, *cards)
    assert _slots(_jobs(16, trainer__accelerator="gpu")) == 1
    with pytest.raises(SweepError, match=r"allowed are 0, 1"):
        _slots(_jobs(16, trainer__accelerator="gpu"), Settings(devices=(7,)))
