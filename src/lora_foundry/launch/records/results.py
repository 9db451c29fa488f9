"""How the jobs of a sweep ended: folded from its record, its journal and its spools."""

from __future__ import annotations

from pathlib import Path

from lora_foundry.launch.records.journal import last_states
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.wire.events import StateEvent, read_events
from lora_foundry.wire.journal import JobLine
from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wire.states import ENDED


def read_results(sweep_dir: Path) -> list[JobOutcome]:
    """The state of every job of the sweep; one without an end (its launcher was killed) counts as KILLED.

    Raises:
        SweepError: When there is no sweep in ``sweep_dir``.
    """
    journalled = {job: state for job, state in last_states(sweep_dir).items() if state.state in ENDED}
    states: dict[int, StateEvent | JobLine] = {**_spooled(sweep_dir), **journalled}
    results = []
    for job in read_sweep(sweep_dir)["jobs"]:
        end = states.get(job["job"])
        results.append(
            JobOutcome(
                job=job["job"],
                name=job["name"],
                dir=sweep_dir / job["dir"],
                state=end.state if end else "KILLED",
                overrides=job["overrides"],
                rank=job["rank"],
                summary=end.summary if end else None,
                error=end.error if end else None,
            )
        )
    return results


def _spooled(sweep_dir: Path) -> dict[int, StateEvent]:
    """Ends that a worker wrote and a killed launcher did not journal: the first of a spool, of the latest spool.

    A later spool's FINISHED counts whatever its time: by a clock that was set back it may seem the earlier one.
    """
    found: dict[int, StateEvent] = {}
    for spool in sorted((sweep_dir / "spool").glob("*.jsonl")):
        ends: dict[int, StateEvent] = {}
        for event in read_events(spool)[0]:
            if isinstance(event, StateEvent) and event.state in ENDED:
                ends.setdefault(event.job, event)
        for job, end in ends.items():
            if job not in found or end.t >= found[job].t or end.state == "FINISHED":
                found[job] = end
    return found
