"""What stands on a terminal and in a file."""

from __future__ import annotations

import io
import itertools
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lora_foundry.config.schema import TrackingConfig
from lora_foundry.launch.plan.packing import PackPlan
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.state import SweepState, fold
from lora_foundry.launch.screen import live as screen_module
from lora_foundry.launch.screen.live import PatientConsole, Screen
from lora_foundry.launch.screen.table import print_results, ui_address, ui_command
from lora_foundry.wire.events import ProgressEvent
from lora_foundry.wire.journal import JobLine
from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wire.states import State
from tests.launch.jobs import job, live
from tests.phrases import LOADING
from tests.root import PROJECT_ROOT
from tests.tracking.places import place
from tests.wire.summaries import summary


def _member(number: int, name: str) -> LiveJob:
    return live(number, job(), name=name)


def _tell(one: LiveJob, *told: ProgressEvent | State, error: str | None = None) -> None:
    """Fold events of a job, and states, as its launcher does."""
    number = one.record.index
    for each in told:
        line = JobLine(job=number, state=each, error=error, summary=None) if isinstance(each, str) else each
        fold(SweepState(jobs={0: one.now, number: one.now}), line)
        one.stepped()


@pytest.fixture
def members() -> dict[int, LiveJob]:
    return {0: _member(0, "duotone-rank4"), 1: _member(1, "duotone-rank8")}


def _progress(t: float, step: int, memory_gib: float | None = None) -> ProgressEvent:
    return ProgressEvent(
        t=t, job=0, step=step, total=100, samples=step, loss=0.25, samples_per_s=9.5, memory_gib=memory_gib
    )


def _shown(members: dict[int, LiveJob], *, terminal: bool, ticks: int = 1) -> str:
    text = io.StringIO()
    console = PatientConsole(file=text, width=120, force_terminal=terminal, color_system=None, highlight=False)
    with Screen(console, members) as screen:
        screen.pack(PackPlan(name="pack-0", jobs=(0, 1), rows=8))
        for member in members.values():
            _tell(member, "RUNNING")
            _tell(member, _progress(100.0, 10))
            _tell(member, _progress(110.0, 20))
        for _ in range(ticks):
            if terminal:
                time.sleep(0.3)
            screen.refresh()
    return text.getvalue()


def test_a_terminal_shows_a_line_a_member_with_step_loss_speed_and_time_left(members: dict[int, LiveJob]) -> None:
    shown = _shown(members, terminal=True)
    for word in ("duotone-rank4", "duotone-rank8", "20/100", "loss 0.2500", "9.5 samples/s", "1:20 left"):
        assert word in shown  # 80 steps at 1 step/s


def test_a_file_gets_plain_lines_every_ten_seconds_only(
    members: dict[int, LiveJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(step=1.0)
    monkeypatch.setattr(screen_module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    shown = _shown(members, terminal=False, ticks=25)
    assert shown.splitlines() == [
        "duotone-rank4 step 20/100, loss 0.2500, 9.5 samples/s, 1:20 left",
        "duotone-rank8 step 20/100, loss 0.2500, 9.5 samples/s, 1:20 left",
    ]


def test_the_last_lines_tell_what_is_done_how_long_all_takes_how_fast_and_with_what_memory(
    members: dict[int, LiveJob],
) -> None:
    members[2] = _member(2, "duotone-rank16")
    text = io.StringIO()
    console = PatientConsole(file=text, width=80, force_terminal=True, color_system=None, highlight=False)

    def last(screen: Screen) -> list[str]:
        shown = io.StringIO()
        PatientConsole(file=shown, width=80).print(screen._render())
        return [line.strip(" ⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏|/-\\") for line in shown.getvalue().splitlines()][-2:]

    with Screen(console, members) as screen:
        screen.pack(PackPlan(name="pack-0", jobs=(0, 1), rows=8))
        screen.said(None, "info", LOADING, "pack-0")
        assert last(screen)[1] == f"{LOADING}; 1 more waiting"
        for member in (members[0], members[1]):
            _tell(member, "RUNNING")
            _tell(member, _progress(110.0, 20, memory_gib=1.25))
            screen.stepped(member, "pack-0")
        screen.expect(95.0)
        told = "about 95 s left for all, 19 samples/s, 1.25 GiB"
        assert last(screen) == ["training; 1 more waiting", told]
        screen.said(None, "stage", "scoring 2 adapters", "pack-0")
        assert last(screen) == ["scoring 2 adapters; 1 more waiting", told]
        screen.stepped(members[0], "pack-0")
        assert last(screen)[0] == "training; 1 more waiting"
        _tell(members[0], _progress(120.0, 100))
        screen.said(None, "info", "exporting duotone-rank4", "pack-0")
        screen.stepped(members[0], "pack-0")
        assert last(screen)[0] == "exporting duotone-rank4; 1 more waiting", "not training after the last step"


def test_two_packs_that_do_different_things_are_told_apart(members: dict[int, LiveJob]) -> None:
    text = io.StringIO()
    with Screen(PatientConsole(file=text, width=80, color_system=None), members) as screen:
        screen.pack(PackPlan(name="pack-0", jobs=(0,), rows=4))
        screen.pack(PackPlan(name="pack-1", jobs=(1,), rows=4))
        screen.said(None, "info", "training", "pack-0")
        screen.said(None, "info", LOADING, "pack-1")
        screen.said(None, "stage", "scoring duotone-rank4", "pack-0")
        assert screen._doing() == f"pack-0: scoring duotone-rank4; pack-1: {LOADING}"
    assert text.getvalue().splitlines()[-2:] == ["... pack-0: training", f"... pack-1: {LOADING}"]


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_asked_for_is_not_hidden_by_what_a_worker_says(keep: bool, members: dict[int, LiveJob]) -> None:
    with Screen(PatientConsole(file=io.StringIO(), width=80), members) as screen:
        screen.pack(PackPlan(name="pack-0", jobs=(0, 1), rows=8))
        screen.phase("stopping", keep=keep)
        screen.said(None, "info", "saving a checkpoint of 2 adapters", "pack-0")
        assert screen._doing() == ("stopping" if keep else "saving a checkpoint of 2 adapters")


def test_a_terminal_that_draws_nothing_over_is_written_to_as_a_file_is(
    members: dict[int, LiveJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    text = io.StringIO()
    with Screen(PatientConsole(file=text, width=80, force_terminal=True), members) as screen:
        screen.said(None, "info", LOADING)
    assert text.getvalue() == f"... {LOADING}\n"


def test_one_cause_told_for_each_job_is_shown_once_and_phases_tell_where_one_is(members: dict[int, LiveJob]) -> None:
    text = io.StringIO()
    with Screen(PatientConsole(file=text, width=40), members) as screen:
        screen.said(None, "info", LOADING)
        for member in members.values():
            screen.said(member, "error", "out of memory at a place with a very long name that is not wrapped")
        screen.watch(lambda: "MLflow is away")
        screen.refresh()
        screen.refresh()
    assert text.getvalue().splitlines() == [
        f"... {LOADING}",
        "duotone-rank4: out of memory at a place with a very long name that is not wrapped",
        "MLflow is away",
    ]


def test_a_terminal_that_went_away_ends_the_showing_only(members: dict[int, LiveJob]) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    with Screen(PatientConsole(file=Gone(), width=80), members) as screen:
        screen.line("unheard")
        _tell(members[0], "FAILED", error="x")
        screen.changed(members[0])
        screen.refresh()


def _outcome(
    number: int, *, state: str = "FINISHED", loss: float | None = 0.5, relative: float | None = 0.9
) -> JobOutcome:
    told = summary(val_loss=loss, val_loss_rel=relative, bytes=3 * 2**20, seconds=61.4, file=f"{number}/a.safetensors")
    return JobOutcome(
        job=number,
        name=f"n{number}",
        dir=Path("/far"),
        state=state,
        overrides={},
        rank=4,
        summary=told if state == "FINISHED" else None,
        error=None,
    )


def _table(results: list[JobOutcome], width: int) -> str:
    text = io.StringIO()
    swept = {result.job: {"lora.rank": "4", "optimizer.lr": f"0.00{result.job}"} for result in results}
    print_results(PatientConsole(file=text, width=width, highlight=False), Path("/far"), results, swept)
    return text.getvalue()


def test_the_table_holds_swept_values_results_and_files_where_they_fit() -> None:
    shown = _table([_outcome(0), _outcome(1, loss=0.75, relative=0.8), _outcome(2, state="FAILED")], 200)
    rows = {cells[0]: cells[1:] for line in shown.splitlines() if (cells := [c.strip() for c in line.split("│")[1:-1]])}
    assert rows["n1 *"] == ["4", "0.001", "0.7500", "0.800", "3.0 MiB", "61", "/far/1/a.safetensors"]
    assert rows["n0"][-1] == "/far/0/a.safetensors"
    assert rows["n2"] == ["4", "0.002", "FAILED", "", "", "", ""]
    assert "Best:     n1 has the lowest loss over the base's; how sure that is cannot be said" in shown


def test_a_job_is_compared_by_its_best_adapter_and_the_last_ones_number_stays_in_sight() -> None:
    before = _outcome(0, relative=0.227)
    told = replace(
        before.summary,  # type: ignore[type-var]  # it finished
        **{"steps": 400, "best_step": 300, "best_val_loss": 0.4, "best_val_loss_rel": 0.221},
        best_file="0/best/a-step000300.safetensors",
    )
    better_before = replace(before, summary=told)
    at_the_end = replace(before, job=1, name="n1", summary=replace(told, steps=300))
    other = _outcome(2, relative=0.225)
    shown = _table([better_before, at_the_end, other], 200)
    rows = {cells[0]: cells[1:] for line in shown.splitlines() if (cells := [c.strip() for c in line.split("│")[1:-1]])}
    assert rows["n0 *"][2:4] == ["0.4000", "0.221"]
    assert rows["n0 *"][-1] == "/far/0/best/a-step000300.safetensors"
    assert "n0: best at step 300 of 400: 0.221 of the base's (last 0.227)" in shown
    assert "n1: best" not in shown


def test_an_early_end_and_a_mean_of_the_last_adapters_are_told_below_the_table() -> None:
    before = _outcome(0, relative=0.227)
    told = replace(
        before.summary,  # type: ignore[type-var]  # it finished
        **{"stopped_early": "stopped early at step 300 of 400: no improvement for 900 samples"},
        **{"averaged": 4, "average_val_loss_rel": 0.219},
    )
    shown = _table([replace(before, summary=told), _outcome(1)], 200)
    assert "n0: stopped early at step 300 of 400: no improvement for 900 samples\n" in shown
    assert "n0: mean of its last 4 adapters: 0.219 of the base's (last 0.227)\n" in shown
    assert not [line for line in shown.splitlines() if line.startswith("n1: ")]


def test_files_that_do_not_fit_are_printed_below_whole() -> None:
    shown = _table([_outcome(0), _outcome(1)], 50)
    assert "  n0: /far/0/a.safetensors\n" in shown
    assert "  n1: /far/1/a.safetensors\n" in shown


def test_the_best_is_the_finished_job_with_the_lowest_loss_over_the_bases() -> None:
    results = [
        _outcome(0, loss=0.3, relative=0.5),
        _outcome(1, relative=None),
        _outcome(2, loss=0.4, relative=0.4),
        _outcome(3, state="KILLED", relative=0.1),
    ]
    assert "n2 *" in _table(results, 200)
    assert "Best" not in _table([_outcome(0, state="FAILED"), _outcome(1, state="FAILED")], 200)


def test_the_command_for_the_ui_fits_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def tracking(uri: str | None, root: str) -> TrackingConfig:
        return place(uri=uri, root=root, experiment="x", flush_s=1.0)

    monkeypatch.chdir(tmp_path)
    assert ui_command(tracking("http://me:secret@h:5000", "mlruns")) == "http://me:***@h:5000", "it has a UI of its own"
    assert (
        ui_command(tracking(None, "mlruns")) == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlruns/mlflow.db"
    )
    own = tracking(None, str(PROJECT_ROOT / "mlruns"))
    assert ui_command(own) == f"make -C {PROJECT_ROOT} ui"
    monkeypatch.chdir(PROJECT_ROOT)
    assert ui_command(own) == "make ui"
    assert ui_address(own) == ui_address(tracking("postgresql://h/runs", "mlruns")) == "http://127.0.0.1:5000"
    assert ui_address(tracking("https://me:secret@h:5000/mlflow/", "mlruns")) == "https://h:5000/mlflow"
    assert ui_address(tracking("databricks", "mlruns")) is None
