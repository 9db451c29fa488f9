"""Starts writers of one sweep, each of which kills itself (SIGKILL) at some call of the store; the last may finish.

Run as a program: ``killed_writers.py SWEEP_DIR SWEEP_ID ROOT HOW_OFTEN``.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lora_foundry.tracking import JobRecord, SweepWriter, ingest
from lora_foundry.tracking.store import prepare_environment
from lora_foundry.tracking.trackfile import TrackFile
from tests.tracking.fake_sweep import COMMAND, a_job_config
from tests.tracking.places import place

LONGEST_LIFE = 60
"""Calls of the store, its files and the tracking file that a writer lives for."""


def main() -> None:
    """Fork writers that die, and at the end let one do its work."""
    folder, sweep_id, root, times = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    prepare_environment()
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    ingest.METRICS_PER_BATCH = 40
    draw = random.Random(7)
    for _ in range(times):
        life, before = draw.randint(1, LONGEST_LIFE), draw.random() < 0.5
        child = os.fork()
        if child == 0:
            arm(life, before=before)
            write(folder, sweep_id, root)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status in {signal.SIGKILL, 0}, status
    write(folder, sweep_id, root)


def arm(life: int, *, before: bool) -> None:
    """Make this process kill itself at its ``life``-th call, before or after the call does its work."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    calls = itertools.count(1)

    def mortal(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            last = next(calls) == life
            if last and before:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = real(*args, **kwargs)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call

    targets = {
        SqlAlchemyStore: ("create_run", "log_batch", "set_tag", "update_run_info"),
        LocalArtifactRepository: ("log_artifact", "log_artifacts"),
        TrackFile: ("save",),
    }
    for owner, names in targets.items():
        for name in names:
            setattr(owner, name, mortal(getattr(owner, name)))


def write(folder: Path, sweep_id: str, root: str) -> None:
    """Record the whole sweep, from wherever the last writer was killed."""
    config = place(root=root, experiment="first light")
    job_config = a_job_config()
    records = [
        JobRecord(
            index=index, name=f"flat-rank{4 * 2**index}", dir=folder / str(index), overrides={}, pack="pack-0",
            config=replace(job_config, lora=replace(job_config.lora, rank=4 * 2**index)),
        )
        for index in range(3)
    ]  # fmt: skip
    writer = SweepWriter(folder, records, config, sweep_id, COMMAND)
    writer.start()
    writer.close(dict.fromkeys(range(3), "FINISHED"))
    assert writer.problem is None, writer.problem


if __name__ == "__main__":
    main()
