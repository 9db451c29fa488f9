"""Two real jobs in the worst surroundings there are end with the very adapters of quiet ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lora_foundry.config.surroundings import foreign
from tests import nursery
from tests.root import PROJECT_ROOT
from tests.surroundings import READ_ONLY, hostile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_ANYWHERE = ("-m", "lora_foundry", "train")
SHORT = ("lora.rank=2,4", "-m", "trainer.max_steps=2", "scheduler.warmup_steps=1", "validation.max_images=2")


def _words(folder: Path) -> list[str]:
    places = {"hydra.sweep.dir": "sweep", "data.cache_dir": "cache", "tracking.root": "runs"}
    overrides = [*SHORT, "sample=none", *(f"{key}={folder / name}" for key, name in places.items())]
    return [*overrides, "hydra.launcher.least_gain=null"]


def test_the_adapters_are_bitwise_those_of_quiet_surroundings(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not foreign(name)} | {"OMP_NUM_THREADS": "1"}
    told = {"capture_output": True, "text": True}
    line = [sys.executable, "-m", "src.train", *_words(tmp_path / "quiet")]
    quiet = nursery.run(line, cwd=PROJECT_ROOT, env=clean, **told)
    assert quiet.returncode == 0, quiet.stdout + quiet.stderr
    line = ["sh", "-c", 'umask 077; exec "$0" "$@" <&-', sys.executable, *_ANYWHERE, *_words(tmp_path / "worst")]
    worst = subprocess.run(line, cwd=READ_ONLY, env=hostile(tmp_path, clean), check=False, **told)
    assert worst.returncode == 0, worst.stdout + worst.stderr
    assert worst.stderr == quiet.stderr == ""
    names = {row["name"]: row["job"] for row in json.loads((tmp_path / "quiet/sweep/results.json").read_text())}
    assert len(names) == 2
    for name, job in names.items():
        one, other = (load_file(tmp_path / w / f"sweep/{job}/adapter/{name}.safetensors") for w in ("quiet", "worst"))
        assert one.keys() == other.keys()
        assert all(one[key].equal(other[key]) for key in one)
