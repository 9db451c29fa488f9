"""Allocations that really fail, above a number of bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.root import PROJECT_ROOT

# Blocks of 64 KiB and more leave the address space when they are freed.
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


SHARES = ("0.75", "0.35")  # of the memory that the free training took; the pack as asked fits in neither


@pytest.mark.slow
def test_a_pack_whose_allocations_fail_ends_with_what_was_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.memory.hard_limit", str(tmp_path), *SHARES],
        cwd=PROJECT_ROOT,
        env={**os.environ, **GIVES_BACK, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines()[-len(SHARES) :]]
    for share, said in zip(SHARES, told, strict=True):
        assert said["grown"] > 150 * 2**20, "the pack is too small to tell"
        assert said["reasons"], share
        assert any("allocate memory" in reason for reason in said["reasons"]), share
        assert said["rungs"][0] == "split", share
        assert said["states"] == ["FINISHED"] * 3, share
        assert said["apart"] < 1e-9, share
