"""The environment of a worker: passed on, taken away, set."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.machines.engines.local import WORKER_COMMAND
from lora_foundry.launch.machines.environment import worker_environment
from tests.root import PROJECT_ROOT
from tests.surroundings import hostile, with_src

CPU, CARD = Slot(name="cpu", device="cpu"), Slot(name="cuda-0", device="cuda:0", visible="GPU-1")
PASSED = {"PATH": "/bin", "HF_HOME": "/hf", "HTTPS_PROXY": "http://proxy", "OMP_PROC_BIND": "close", "TMPDIR": "/x"}


def test_what_is_the_users_and_the_machines_is_passed_on() -> None:
    assert worker_environment(CPU, PASSED).items() >= PASSED.items()


def test_of_hostile_surroundings_nothing_is_left(tmp_path: Path) -> None:
    given = hostile(tmp_path, PASSED)
    made = worker_environment(CPU, given)
    kept = {name for name in made if name in given and made[name] == given[name]}
    assert not [name for name in kept if name.startswith(("SLURM", "OMPI", "PL_", "MLFLOW", "WANDB", "KUBERNETES"))]
    assert not kept & {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "PYTHONWARNINGS", "PYTHONIOENCODING"}
    assert made["PYTHONPATH"].split(os.pathsep) == [str(PROJECT_ROOT / "src"), given["PYTHONPATH"]], "ours first"
    assert made["PYTHONUTF8"] == "1"


@pytest.mark.parametrize("given", [{}, {"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "no card"}])
def test_a_worker_sees_its_slots_device_alone(given: dict[str, str]) -> None:
    assert worker_environment(CPU, given)["CUDA_VISIBLE_DEVICES"] == ""
    assert worker_environment(CARD, given)["CUDA_VISIBLE_DEVICES"] == "GPU-1"


def test_cublas_repeats_itself_on_every_card_unless_its_user_says_otherwise() -> None:
    """It is read when CUDA starts, before a worker knows whether a pack is to be deterministic."""
    name = "CUBLAS_WORKSPACE_CONFIG"
    assert worker_environment(CARD, {})[name] == ":4096:8"
    assert worker_environment(CARD, {name: ":16:8"})[name] == ":16:8"
    assert name not in worker_environment(CPU, {})


@pytest.mark.parametrize(
    ("share", "asked", "threads"),
    [
        (None, None, None),  # torch's own
        (None, "1,4", "1"),
        (None, "0x7", "2"),
        (None, "999", "2"),
        (2, None, "2"),
        (2, "1", "1"),
        (1, "-4", "1"),
        (1, "8", "1"),
    ],
)
def test_threads_are_a_number_that_there_is(
    share: int | None, asked: str | None, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_foundry.launch.machines.environment.cores", lambda: 2)
    given = {} if asked is None else {"OMP_NUM_THREADS": asked}
    made = worker_environment(Slot(name="cpu", device="cpu", threads=share), given)
    assert made.get("OMP_NUM_THREADS") == threads


def test_the_heap_of_a_cpu_worker_keeps_its_pages() -> None:
    assert "glibc.malloc.mmap_max=0" in worker_environment(CPU, {})["GLIBC_TUNABLES"]
    assert "GLIBC_TUNABLES" not in worker_environment(CARD, {})


@pytest.mark.parametrize(
    "own", [{"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}, {"GLIBC_TUNABLES": ""}, {"MALLOC_ARENA_MAX": "1"}]
)
def test_a_users_own_allocator_settings_stand(own: dict[str, str]) -> None:
    made = worker_environment(CPU, own)
    assert {name: made.get(name) for name in own} == own
    assert made.keys() >= own.keys()
    assert "mmap_max" not in made.get("GLIBC_TUNABLES", "")


@pytest.mark.slow
def test_a_folder_src_of_the_users_is_not_taken_for_ours(tmp_path: Path) -> None:
    theirs = with_src(tmp_path, package=True)
    environment = worker_environment(CPU, {**os.environ, "PYTHONPATH": str(theirs)})
    command = [*WORKER_COMMAND, "--help"]
    done = subprocess.run(command, cwd=theirs, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the sweep's folder" in done.stdout
