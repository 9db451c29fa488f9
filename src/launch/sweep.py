"""One sweep from its checked points to its results: folders, journal, worker, tracking, table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.config.schema import JobConfig, TrackingConfig
from src.launch.budget import Budget, Forecast, budget_for
from src.launch.clock import BASIS, Basis, in_words
from src.launch.engines import ENGINES
from src.launch.engines.protocol import WORKER_LOST
from src.launch.folders import add_jobs, create_sweep, read_sweep, refuse_taken, write_jobs
from src.launch.journal import Journal, SweepBusyError, read_journal
from src.launch.members import Member
from src.launch.names import Named, name_jobs, show_value, swept_keys
from src.launch.outcome import FAILED, INTERRUPTED, OUTCOME
from src.launch.plan import Pack, Plan, make_plan
from src.launch.planboard import print_plan
from src.launch.points import Point, SweepError
from src.launch.refusing import refuse_hopeless
from src.launch.results import JobOutcome, read_results, write_results
from src.launch.resume import Resumed, has_checkpoint
from src.launch.screen import PatientConsole, Screen
from src.launch.settings import Settings
from src.launch.sharing import Sharing, check_locks
from src.launch.signals import Interrupts
from src.launch.sizes import Sizes
from src.launch.supervise import Supervisor
from src.launch.table import near, plain, print_results, ui_command
from src.launch.waiting import Task
from src.launch.writer import SafeWriter
from src.tracking.records import JobRecord

Finish = Callable[[Path, list[JobOutcome]], Path | None]


def plan_of(
    configs: Mapping[int, JobConfig], settings: Settings, forecast: Forecast, first_pack: int = 0
) -> tuple[Plan, Budget, Basis]:
    """The plan of a sweep on the slots that there are now, and what its times are based on.

    Raises:
        SweepError: When the devices that were asked for are not there, or none has the memory for a job.
    """
    budget = budget_of(configs, settings, forecast)
    refuse_hopeless(configs, budget, settings)
    clock, slots = budget.clock(), len(budget.slots)
    plan = make_plan(configs, settings.pack_size, first_pack, slots=slots, fits=budget.fits, clock=clock)
    return plan, budget, clock.basis


def budget_of(configs: Mapping[int, JobConfig], settings: Settings, forecast: Forecast) -> Budget:
    """What the slots that there are now allow.

    Raises:
        SweepError: When the devices that were asked for are not there.
    """
    listed = list(configs.values())
    slots = ENGINES[settings.engine](settings).slots(listed[0].trainer.accelerator)
    return budget_for(forecast, slots, listed, shown=settings.plan_only)


def show_plan(points: Sequence[Point], settings: Settings, forecast: Forecast) -> None:
    """Print what would be done; nothing is created.

    Raises:
        SweepError: When the devices that were asked for are not there, or none has the memory for a job.
    """
    configs = {point.index: point.config for point in points}
    plan, budget, basis = plan_of(configs, settings, forecast)
    names = name_jobs(list(configs.values()), [point.overrides() for point in points], []).names
    print_plan(PatientConsole(highlight=False), plan, configs, dict(zip(configs, names, strict=True)), budget, basis)


def run_sweep(  # noqa: PLR0913  # what a sweep is made of
    points: Sequence[Point],
    sweep_dir: Path,
    token: str,
    settings: Settings,
    finish: Finish,
    *,
    forecast: Forecast,
    begun: bool = False,
    notes: Sequence[str] = (),
) -> list[JobOutcome]:
    """Train the points, in ``sweep_dir``.

    Args:
        points: Checked points, in order.
        sweep_dir: The sweep's folder.
        token: Part of the sweep's id.
        settings: What the launcher's configuration says.
        finish: Makes the sweep's picture.
        forecast: Tells what packs will take.
        begun: Whether earlier points of this sweep were run by this process already.
        notes: What the user is told first.

    Returns:
        How each point ended, in order.

    Raises:
        SweepError: When the sweep cannot start; nothing trains then.
    """
    sweep_dir = sweep_dir.absolute()
    refuse_taken(sweep_dir, points, begun=begun)
    earlier = read_sweep(sweep_dir)["jobs"] if begun else []
    overrides = [point.overrides() for point in points]
    named = name_jobs([point.config for point in points], overrides, [job["name"] for job in earlier])
    configs = {point.index: point.config for point in points}
    plan, budget, basis = plan_of(configs, settings, forecast, first_pack=len({job["pack"] for job in earlier}))
    check_locks(share=settings.share)
    record = read_sweep(sweep_dir) if begun else create_sweep(sweep_dir, token)
    members = _members(points, named, plan)
    with Journal(sweep_dir) as journal:
        try:
            write_jobs(points, named.names)
            add_jobs(sweep_dir, record, [member.record for member in members.values()])
        except OSError as error:
            msg = f"{sweep_dir} cannot be written ({error.strerror}); free some space, or give another folder"
            raise SweepError([msg]) from error
        journal.write("sweep", id=record["id"], jobs=sorted(members))
        for pack, seconds in zip(plan.packs, plan.seconds, strict=True):
            journal.write("pack", pack=pack.name, jobs=list(pack.jobs), rows=pack.rows, predicted_s=round(seconds, 1))
        run = _Run(sweep_dir, record, members, journal, settings, finish)
        run.notes = [*notes, *named.notes, *plan.reasons]
        if basis == "measured":
            run.notes.append(f"predicted to take {in_words(plan.ends_s)}, {BASIS[basis]}")
        run.train(
            [Task(pack=pack, spool=sweep_dir / "spool" / f"{pack.name}.jsonl") for pack in plan.packs],
            Path.cwd(),
            budget,
        )
    return [result for result in run.results if result.index in members]


def run_resumed(resumed: Resumed, settings: Settings, finish: Finish, *, forecast: Forecast) -> list[JobOutcome]:
    """Continue jobs of one sweep; arguments as :func:`run_sweep` has them.

    Raises:
        SweepError: When another process works in their sweep.
    """
    members = {job.index: Member(record=job, resume=has_checkpoint(job.dir)) for job in resumed.jobs}
    check_locks(share=settings.share)
    try:
        with Journal(resumed.sweep_dir) as journal:
            tasks = []
            for (name, jobs), spool in zip(resumed.packs, resumed.spools(), strict=True):
                for job in jobs:
                    journal.write("resumed", job=job, spool=spool.name)
                rows = sum(members[job].record.config.data.batch_size for job in jobs)
                tasks.append(Task(pack=Pack(name=name, jobs=jobs, rows=rows), spool=spool))
            run = _Run(resumed.sweep_dir, resumed.sweep, members, journal, settings, finish)
            run.notes, configs = list(resumed.notes), {n: one.record.config for n, one in members.items()}
            run.train(tasks, resumed.cwd, budget_of(configs, settings, forecast))
    except SweepBusyError as error:
        raise SweepError([f"resume: {error}"]) from error
    return [result for result in run.results if result.index in members]


class _Run:
    """Members of one sweep on their way through the worker."""

    def __init__(
        self,
        sweep_dir: Path,
        sweep: Mapping[str, Any],
        members: dict[int, Member],
        journal: Journal,
        settings: Settings,
        finish: Finish,
    ) -> None:
        self.notes: list[str] = []
        self.results: list[JobOutcome] = []
        self._sweep_dir = sweep_dir
        self._sweep = sweep
        self._members = members
        self._journal = journal
        self._settings = settings
        self._finish = finish
        self._console = PatientConsole(highlight=False)

    def train(self, tasks: Sequence[Task], cwd: Path, budget: Budget) -> None:
        """Run the packs on the budget's slots, then settle results, runs and picture."""
        jobs = [member.record for member in self._members.values()]
        engine = ENGINES[self._settings.engine](self._settings)
        accelerator = jobs[0].config.trainer.accelerator
        writer = SafeWriter(self._sweep_dir, jobs, self._sweep["id"], self._sweep["command"])
        with Interrupts() as interrupts:
            with Screen(self._console, self._members) as screen:
                self._greet(screen)
                screen.watch(lambda: writer.problem)
                writer.start()
                with Sharing(
                    self._sweep_dir,
                    lambda: engine.slots(accelerator),
                    lambda lines: self._say_waiting(screen, lines),
                    share=self._settings.share,
                ) as sharing:
                    Supervisor(
                        sweep_dir=self._sweep_dir,
                        engine=engine,
                        slots=budget.slots,
                        settings=self._settings,
                        cwd=cwd,
                        members=self._members,
                        sizes=Sizes(self._settings.pack_size, self._settings.least_gain, read_journal(self._sweep_dir)),
                        fits=lambda configs: budget.on(sharing.known(budget.slots)).fits(configs),
                        journal=self._journal,
                        screen=screen,
                        interrupts=interrupts,
                        sharing=sharing,
                    ).run(tasks)
                code = self._exit_code(interrupted=interrupts.asked)
                OUTCOME.worsen(code)
                interrupts.finishing = True
                self.results = read_results(self._sweep_dir)
                self._write_results(screen)
                picture = self._finish(self._sweep_dir, self.results)  # before the writer ends, which takes it along
                if writer.active:
                    screen.phase("writing the last of the runs to MLflow")
                writer.close({number: member.state for number, member in self._members.items()})
            if not interrupts.hung_up:
                self._say_results(picture, writer, jobs[0].config.tracking)
        self._journal.write("ended", exit_code=code)

    def _write_results(self, screen: Screen) -> None:
        try:
            write_results(self._sweep_dir, self.results)
        except OSError as error:
            screen.line(f"results.json was not written ({error}); python -m src.status shows them", "yellow")

    def _exit_code(self, *, interrupted: bool) -> int:
        if interrupted:
            return INTERRUPTED
        return FAILED if any(member.state != "FINISHED" for member in self._members.values()) else 0

    def _greet(self, screen: Screen) -> None:
        count = len(self._members)
        screen.line(f"Sweep of {count} {'jobs' if count > 1 else 'job'} in {near(self._sweep_dir)}", "bold")
        for note in self.notes:
            screen.line(f"  {note}", "dim")

    def _say_waiting(self, screen: Screen, lines: Sequence[str]) -> None:
        """Other sweeps have devices that this one could train on, or no longer."""
        self._journal.write("waiting", lines=list(lines))
        for line in lines:
            screen.line(line, "yellow")
        if lines and all(member.state == "PENDING" for member in self._members.values()):
            screen.phase("waiting for a device")

    def _say_results(self, picture: Path | None, writer: SafeWriter, tracking: TrackingConfig) -> None:
        console = self._console
        overrides = {result.index: result.overrides for result in self.results}
        keys = swept_keys(list(overrides.values()))
        swept = {index: {key: self._shown(index, key, given) for key in keys} for index, given in overrides.items()}
        try:
            print_results(console, self._sweep_dir, self.results, swept)
            if picture is not None:
                plain(console, f"Picture:  {near(picture)}")
            finished = [result for result in self.results if result.state == "FINISHED"]
            if finished:
                folder = finished[0].dir if len(finished) == 1 else self._sweep_dir / "*"
                plain(console, f"Adapters: {near(folder / 'adapter')}")
            if writer.problem:
                plain(console, f"MLflow:   {writer.problem}")
            elif writer.active:
                plain(console, f"MLflow:   {ui_command(tracking)}")
            self._say_unfinished()
        except OSError:
            return  # the reader of our output has gone; everything said stands in results.json

    def _say_unfinished(self) -> None:
        for member in self._members.values():
            if member.state == "FAILED":
                plain(self._console, f"FAILED:   {member.record.name}: {member.error}")
            lost = member.state == "KILLED" or (member.error or "").startswith(WORKER_LOST)
            if lost and has_checkpoint(member.record.dir):
                plain(self._console, f"Continue: python -m src.train resume={near(member.record.dir)}")

    def _shown(self, index: int, key: str, given: Mapping[str, str]) -> str:
        member = self._members.get(index)
        return show_value(member.record.config, key, given.get(key)) if member else given.get(key, "")


def _members(points: Sequence[Point], named: Named, plan: Plan) -> dict[int, Member]:
    return {
        point.index: Member(
            record=JobRecord(
                index=point.index,
                name=name,
                dir=point.dir,
                config=point.config,
                overrides=point.overrides(),
                pack=plan.pack_of(point.index).name,
            )
        )
        for point, name in zip(points, named.names, strict=True)
    }
