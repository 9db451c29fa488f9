"""What ``src.status`` shows first, what it folds, and what a terminal's edge takes away."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from lora_foundry.judge.verdict import verdict_of
from lora_foundry.launch.records.ledger import Sweep
from lora_foundry.launch.records.record import StoredJob, StoredSweep
from lora_foundry.launch.records.state import SweepState
from lora_foundry.launch.screen.board import board
from lora_foundry.launch.screen.watching import watch
from lora_foundry.wire.states import State
from lora_foundry.wire.verdict import write_verdict
from tests.judge.outcomes import outcome
from tests.wire.summaries import summary


def _sweep(number: int, *states: State | Literal["LOST"], running: bool = False, ends: float | None = None) -> Sweep:
    name = f"2026-11-27/10-00-0{number}-abcdef"
    jobs = tuple(
        StoredJob(job=place, name=f"n{number}-{place}", dir=str(place), rank=4, overrides={}, pack="pack-0")
        for place in range(len(states))
    )
    stored = StoredSweep(format=1, id=name, command="", created=1000.0 + number, cwd=None, config_dir=None, jobs=jobs)
    folded = SweepState.of(stored)
    folded.ends = ends
    for place, state in enumerate(states):
        job = folded.jobs[place]
        job.state, job.device = "RUNNING" if state == "LOST" else state, "cpu"
        job.summary = summary(val_loss_rel=0.9 - place / 10) if state == "FINISHED" else None
        job.samples_per_s, job.memory_gib = (4.5, 1.25) if state == "RUNNING" else (None, None)
    return Sweep(dir=Path("multirun") / name, stored=stored, state=folded, running=running)


def _shown(*sweeps: Sweep, unfold: bool = False, width: int = 80) -> list[str]:
    """As ``sweeps`` come from the ledger: the newest first."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    console.print(board(sorted(sweeps, key=lambda sweep: -sweep.stored.created), unfold=unfold))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_what_runs_comes_first_then_the_newest() -> None:
    lines = _shown(
        _sweep(1, "RUNNING", running=True), _sweep(2, "FINISHED"), _sweep(3, "KILLED"), _sweep(4, "FINISHED")
    )
    order = [line[23:28] for line in lines if line.startswith("multirun/")]
    assert order == ["00-01", "00-04", "00-03", "00-02"]


def test_a_finished_sweep_is_a_line_with_its_best() -> None:
    lines = _shown(_sweep(1, "FINISHED", "FINISHED"), _sweep(2, "FINISHED"))
    assert lines[:2] == [
        "multirun/2026-11-27/10-00-02-abcdef  1 finished",
        "multirun/2026-11-27/10-00-01-abcdef  2 finished, best n1-1",
    ]
    assert lines[-1] == "python -m src.status --all shows the jobs of finished sweeps"
    unfolded = _shown(_sweep(1, "FINISHED", "FINISHED"), unfold=True)
    assert any(line.split()[1:3] == ["n1-0", "FINISHED"] for line in unfolded)


def test_which_to_keep_is_told_as_it_was_found_at_the_sweeps_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = _sweep(1, "FINISHED", "FINISHED")
    sweep.dir.mkdir(parents=True)
    told = verdict_of([outcome(0, [0.3, 0.31, 0.29], name="n1-0"), outcome(1, [0.6, 0.61, 0.6], name="n1-1")])
    assert told is not None
    write_verdict(sweep.dir, told)
    assert _shown(sweep)[0].endswith("2 finished, best n1-0"), "by what was found, not by the last losses alone"
    assert f"  best: {told.sentence}" in _shown(sweep, unfold=True)
    assert "best:" not in " ".join(_shown(_sweep(1, "FINISHED", "RUNNING", running=True))), "others may follow"


def test_what_did_not_finish_is_open_with_the_way_to_go_on() -> None:
    lines = _shown(_sweep(1, "FINISHED", "LOST"))
    assert any("n1-1" in line for line in lines)
    assert lines[-1] == "  to go on: python -m src.resume multirun/2026-11-27/10-00-01-abcdef"


def test_a_running_sweep_says_how_long_it_takes_how_fast_and_with_what_memory() -> None:
    lines = _shown(_sweep(1, "RUNNING", "RUNNING", "PENDING", running=True, ends=time.time() + 240.4))
    assert lines[1] == "  about 4 min left, 9 samples/s, 1.25 GiB"  # two jobs of one process have its memory once
    assert "left" not in " ".join(_shown(_sweep(1, "RUNNING", running=True, ends=time.time() - 5)))


def test_no_line_is_broken_at_80_columns() -> None:
    sweep = _sweep(1, *["FINISHED"] * 12)
    assert all(len(line) <= 80 for line in _shown(sweep, _sweep(2, "FAILED", "RUNNING", running=True)))
    assert _shown(sweep)[0].startswith("multirun/2026-11-27/10-00-01-abcdef  12 finished, best n1-")


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_watching_shows_the_newest_at_the_top_and_works_on_any_terminal(
    term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    sweeps = [_sweep(number, "FAILED", "FAILED", "FAILED") for number in range(9, 0, -1)]
    text = io.StringIO()
    looks: list[int] = []

    def look() -> list[Sweep]:
        looks.append(1)
        if len(looks) > 2:
            raise KeyboardInterrupt
        return sweeps

    made = Console(file=text, width=80, height=24, force_terminal=True, color_system=None)
    monkeypatch.setattr("lora_foundry.launch.screen.watching.PatientConsole", lambda: made)
    monkeypatch.setattr("lora_foundry.launch.screen.watching._EVERY_S", 0.0)
    monkeypatch.setattr("lora_foundry.launch.screen.watching._PLAIN_EVERY_S", 0.0)
    assert watch(look, unfold=False) == 0
    assert "10-00-09-abcdef" in text.getvalue()
    assert ("10-00-01-abcdef" in text.getvalue()) == (term == "dumb"), "only what scrolls shows all"
