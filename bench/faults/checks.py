"""What must hold after every fault, against a sweep that nobody disturbed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from safetensors import safe_open
from safetensors.torch import load_file

from bench.faults.sweeps import RealSweep, ensure
from lora_foundry.wire.events import WORKER_EVENTS, LogEvent, PackStarted, read_events
from lora_foundry.wire.journal import BeganLine

APART = 1e-9  # DESIGN's equality contract in 64-bit
_HALF_APART = 1e-4  # of files in fp16, where a value at the edge of two may fall to either side
_COMPARED = ("train/loss", "val/loss", "val/loss_rel")  # the rest is of clocks and memory, or follows from these


@dataclass(kw_only=True)
class Verdict:
    """What was compared and found whole.

    Attributes:
        jobs: Finished adapters that were compared.
        bitwise: How many of them had to be, and were, bitwise the same.
        apart: The largest relative distance of the others.
        points: Metric points that were compared.
        tries: How often the fault was done.
    """

    jobs: int = 0
    bitwise: int = 0
    apart: float = 0.0
    points: int = 0
    tries: int = 1


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """One for all."""
    return Verdict(
        jobs=sum(one.jobs for one in verdicts),
        bitwise=sum(one.bitwise for one in verdicts),
        apart=max(one.apart for one in verdicts),
        points=sum(one.points for one in verdicts),
        tries=sum(one.tries for one in verdicts),
    )


@dataclass(kw_only=True)
class Recorded:
    """A run as MLflow's database has it.

    Attributes:
        status: MLflow's.
        points: How often each (key, step) was logged.
        values: Of the metrics that are the training's own.
        params: Names of its parameters.
        files: Its artifacts, the adapter's name left out.
    """

    status: str
    points: Counter[tuple[str, int]] = field(default_factory=Counter)
    values: dict[tuple[str, int], float] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


def check(
    sweep: RealSweep,
    reference: RealSweep,
    database: Path,
    *,
    failed: frozenset[int] = frozenset(),
    store: Path | None = None,
    elsewhere: Path | None = None,
) -> Verdict:
    """Everything that must hold.

    Args:
        sweep: The sweep after its fault; no process of it is left.
        reference: The undisturbed one, with a job of each seed.
        database: Where ``reference`` was recorded.
        failed: Numbers of jobs that were meant to fail.
        store: Database of ``sweep`` where it is another.
        elsewhere: Where that one's artifacts lie.

    Raises:
        LostError: With the first thing that does not hold.
    """
    ensure(not sweep.is_held() and not sweep.workers(), f"{sweep.folder.name}: someone still works in it")
    _no_run_left_running(store or database)
    ours, theirs = recorded(sweep, store or database, elsewhere), recorded(reference, database)
    ensure(ours[None].status == ("FAILED" if failed else "FINISHED"), f"the sweep's run is {ours[None].status}")
    verdict = Verdict()
    same = not failed and same_composition(sweep, reference)
    of_seed = {int(row["overrides"]["seed"]): number for number, row in reference.jobs().items()}
    for number, row in sweep.jobs().items():
        wanted = "FAILED" if number in failed else "FINISHED"
        name = f"{sweep.folder.name}: {row['name']}"
        ensure(row["state"] == wanted, f"{name} is {row['state']} ({row['error']}), not {wanted}")
        ensure(ours[number].status == wanted, f"{name}: its run is {ours[number].status}, not {wanted}")
        doubled = [point for point, times in ours[number].points.items() if times > 1]
        ensure(not doubled, f"{name}: logged twice: {doubled[:5]}")
        if number not in failed:
            other = of_seed[int(row["overrides"]["seed"])]
            given = {word.lstrip("+").partition("=")[0] for word in {*sweep.words} ^ {*reference.words}}
            _same_metrics(name, ours[number], theirs[other], given)
            _same_files(sweep, number, reference, other)
            _same_adapter(verdict, sweep, row, reference, reference.jobs()[other], bitwise=same)
            verdict.points += ours[number].points.total()
    if sweep.recipe.like is not None:
        _all_told(sweep)
    return verdict


def _all_told(search: RealSweep) -> None:
    """Each trial of the study once, and none without its value."""
    storage = JournalStorage(JournalFileBackend(str(search.folder / "study.journal")))
    study = optuna.load_study(study_name=None, storage=storage)
    states = Counter(trial.state.name for trial in study.trials)
    ensure(states == {"COMPLETE": len(search.recipe.seeds)}, f"{search.folder.name}: its study has {dict(states)}")


def check_undisturbed(sweep: RealSweep, database: Path) -> None:
    """What the others are compared with is itself whole: nothing doubled, a loss for every step."""
    steps = set(range(1, sweep.recipe.steps + 1))
    for number, run in recorded(sweep, database).items():
        ensure(run.status == "FINISHED", f"the undisturbed sweep has a run that is {run.status}")
        if number is not None:
            logged = {step for key, step in run.points if key == "train/loss"}
            ensure(logged == steps, f"the undisturbed sweep logged losses of steps {sorted(logged)}")
            ensure(set(run.points.values()) == {1}, "the undisturbed sweep logged something twice")
            ensure({"adapter/NAME.safetensors", "config/config.yaml"} <= run.files, f"its artifacts are {run.files}")
    verdict = Verdict()
    for row in sweep.jobs().values():
        _same_adapter(verdict, sweep, row, sweep, row, bitwise=True)


def same_composition(sweep: RealSweep, reference: RealSweep) -> bool:
    """Whether every pack was the same jobs from its first step to its last, and always went on at one common step.

    Where it was, equality is bitwise. Anything that this does not know of a pack's way counts as a difference.
    """
    packs = {tuple(sorted(line.jobs)) for line in reference.journal(BeganLine)}
    for line in sweep.journal(BeganLine):
        if tuple(sorted(line.jobs)) not in packs:
            return False
    return all(_went_on_together(spool) for spool in (sweep.folder / "spool").glob("*.jsonl"))


def _went_on_together(spool: Path) -> bool:
    members, gone_on = 0, Counter[str]()
    for event in read_events(spool)[0]:
        if isinstance(event, PackStarted):
            if not _all_or_none(gone_on, members):
                return False
            members, gone_on = len(event.jobs), Counter[str]()
        elif isinstance(event, WORKER_EVENTS) and event.state not in {"pack_ended", "alive"}:
            return False
        elif isinstance(event, LogEvent) and " continues from " in str(event.message):
            gone_on[str(event.message).rsplit(" ", 1)[-1]] += 1
    return _all_or_none(gone_on, members)


def _all_or_none(gone_on: Counter[str], members: int) -> bool:
    """Whether a pack's members all began anew, or all continued from one step."""
    return not gone_on or list(gone_on.values()) == [members]


def recorded(sweep: RealSweep, database: Path, elsewhere: Path | None = None) -> dict[int | None, Recorded]:
    """The sweep's runs by job number, its own under None."""
    of_sweep = "select run_uuid from tags where key='sweep' and value=?"
    query = f"select run_uuid, key, value from tags where run_uuid in ({of_sweep})"  # noqa: S608 - fixed words
    with closing(sqlite3.connect(database)) as store:
        tags: dict[str, dict[str, str]] = {}
        for run, key, value in store.execute(query, (sweep.id,)):
            tags.setdefault(run, {})[key] = value
        found: dict[int | None, Recorded] = {}
        for run, known in tags.items():
            number = int(known["job"]) if known["role"] == "job" else None
            ensure(number not in found, f"{sweep.folder.name}: job {number} has two runs")
            found[number] = _recorded(store, run, known.get("name", ""), elsewhere)
    ensure(None in found, f"{sweep.folder.name} was not recorded at all")
    missing = set(sweep.jobs()) - set(found)
    ensure(not missing, f"{sweep.folder.name}: no run of jobs {missing}")
    return found


def _recorded(store: sqlite3.Connection, run: str, name: str, elsewhere: Path | None) -> Recorded:
    status, uri = store.execute("select status, artifact_uri from runs where run_uuid=?", (run,)).fetchone()
    root = Path(uri) if elsewhere is None else elsewhere / str(uri).removeprefix("mlflow-artifacts:/")
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} if root.is_dir() else set()
    made = Recorded(status=status, files={file.replace(name, "NAME") for file in files} if name else files)
    for key, step, value in store.execute("select key, step, value from metrics where run_uuid=?", (run,)):
        made.points[key, step] += 1
        if key in _COMPARED:
            made.values[key, step] = value
    made.params = {key for (key,) in store.execute("select key from params where run_uuid=?", (run,))}
    return made


def _no_run_left_running(database: Path) -> None:
    with closing(sqlite3.connect(database)) as store:
        left = store.execute("select name from runs where status not in ('FINISHED', 'FAILED', 'KILLED')").fetchall()
    ensure(not left, f"runs that stay RUNNING: {left}")


def _same_metrics(name: str, ours: Recorded, theirs: Recorded, given: set[str]) -> None:
    """Points and values, what was set but for what a fault's own sweep is ``given``, and artifacts."""
    missing, more = theirs.points - ours.points, ours.points - theirs.points
    ensure(not missing, f"{name}: metrics that are missing: {sorted(missing)[:5]} and {max(0, len(missing) - 5)} more")
    ensure(not more, f"{name}: metrics that nobody expects: {sorted(more)[:5]}")
    for point, value in theirs.values.items():
        got = ours.values[point]
        ensure(abs(got - value) <= APART * abs(value), f"{name}: {point} is {got!r}, undisturbed it is {value!r}")
    others = (ours.params ^ theirs.params) - given
    ensure(not others, f"{name}: parameters differ: {others}")
    lost = theirs.files - ours.files
    ensure(not lost, f"{name}: artifacts that are missing: {lost}")


def _same_files(sweep: RealSweep, number: int, reference: RealSweep, other: int) -> None:
    """The job's folder holds what the undisturbed one holds, and nothing half written."""

    def files(of: RealSweep, job: int) -> set[str]:
        row = of.jobs()[job]
        folder = of.folder / row["dir"]
        paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        return {path.replace(row["name"], "NAME") for path in paths if not path.startswith("checkpoints/")}

    ours, theirs = files(sweep, number), files(reference, other)
    ensure(not theirs - ours, f"{sweep.folder.name}: job {number} lacks {theirs - ours}")
    torn = {path for path in ours - theirs if path.endswith(".tmp")}
    ensure(not torn, f"{sweep.folder.name}: job {number} keeps half-written files: {torn}")


def _same_adapter(
    verdict: Verdict,
    sweep: RealSweep,
    row: dict[str, Any],
    reference: RealSweep,
    other: dict[str, Any],
    *,
    bitwise: bool,
) -> None:
    """The exported adapters in both formats, and in 64-bit the last checkpoints where both are there."""
    for key in ("file", "diffusers_file"):
        got, want = (load_file(of.folder / its["summary"][key]) for of, its in ((sweep, row), (reference, other)))
        _near(f"{row['name']}: {key}", got, want, 0.0 if bitwise else _HALF_APART)
    last = [_last_weights(of.folder / its["dir"], of.recipe.steps) for of, its in ((sweep, row), (reference, other))]
    if last[0] is not None and last[1] is not None:
        apart = _near(f"{row['name']}: last checkpoint", last[0], last[1], 0.0 if bitwise else APART)
        verdict.apart = max(verdict.apart, apart)
    verdict.jobs += 1
    verdict.bitwise += bitwise


def _near(what: str, got: dict[str, torch.Tensor], want: dict[str, torch.Tensor], allowed: float) -> float:
    """The distance in norm, relative, over all tensors together."""
    ensure(got.keys() == want.keys(), f"{what}: other tensors: {sorted(got.keys() ^ want.keys())[:3]}")
    square = sum(float((got[key].double() - want[key].double()).square().sum()) for key in want)
    size = sum(float(want[key].double().square().sum()) for key in want)
    apart = (square / size) ** 0.5
    ensure(apart <= allowed, f"{what} differs by {apart:.2e} (relative), allowed is {allowed:g}")
    return apart


def _last_weights(job: Path, step: int) -> dict[str, torch.Tensor] | None:
    path = job / "checkpoints" / f"step-{step:08d}.safetensors"
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys() if key.startswith("weights/")}  # noqa: SIM118
