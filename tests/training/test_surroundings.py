"""A training is decided by its configuration, whatever a cluster or another launcher left in the environment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.surroundings import CLUSTERS, RANKS, TRAINERS, with_srun
from tests.training.world import Spec, train

KINDS = {"a client on the PATH": {}, "ranks": RANKS, "an allocation": CLUSTERS, "arguments": TRAINERS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_the_same_adapter(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = train([Spec("one")], tmp_path / "clean").weights("one")
    monkeypatch.setenv("PATH", with_srun(tmp_path))
    for name, value in KINDS[kind].items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hpc_ckpt_1.ckpt").write_text("what Lightning would go on from")
    handler = signal.getsignal(signal.SIGUSR1)
    there = train([Spec("one")], tmp_path / "there")
    assert there.states(0)[-1] == "FINISHED"
    assert all(torch.equal(there.weights("one")[key], value) for key, value in clean.items())
    assert signal.getsignal(signal.SIGUSR1) == handler
    assert os.environ.items() >= KINDS[kind].items(), "and leaves them to whoever set them"
