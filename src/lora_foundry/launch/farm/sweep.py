"""One sweep from its checked points to its results: folders, journal, worker, tracking, table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.config.length import rows_of
from lora_foundry.config.schema import JobConfig
from lora_foundry.config.warned import tags_of, told
from lora_foundry.launch.farm.farm import Farm
from lora_foundry.launch.farm.outside import Finish, Outside
from lora_foundry.launch.farm.waiting import Task
from lora_foundry.launch.machines.engine import Engine
from lora_foundry.launch.machines.engines import engine_of
from lora_foundry.launch.machines.sharing import check_locks
from lora_foundry.launch.machines.workers import with_slots
from lora_foundry.launch.plan.budget import Budget, Forecast, budget_for
from lora_foundry.launch.plan.clock import BASIS, Basis, in_words
from lora_foundry.launch.plan.packing import PackPlan, Plan, make_plan
from lora_foundry.launch.plan.refusing import refuse_hopeless
from lora_foundry.launch.points.names import Named, Names
from lora_foundry.launch.points.point import Point
from lora_foundry.launch.points.preflight import Asked, remarked
from lora_foundry.launch.records.folders import add_jobs, create_sweep, refuse_taken, write_jobs
from lora_foundry.launch.records.journal import Journal, SweepBusyError
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.reading import read_state
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.launch.records.resume import Resumed, readable_jobs
from lora_foundry.launch.records.stored_jobs import has_checkpoint, stored_launcher
from lora_foundry.launch.screen.live import PatientConsole
from lora_foundry.launch.screen.planboard import print_plan, say
from lora_foundry.tracking.records import JobRecord
from lora_foundry.wire.journal import PackLine, ResumedLine, SweepLine
from lora_foundry.wire.outcomes import JobOutcome


def plan_of(
    configs: Mapping[int, JobConfig], settings: Settings, engine: Engine, forecast: Forecast, first_pack: int = 0
) -> tuple[Plan, Budget, Basis]:
    """The plan of a sweep on the slots that there are now, and what its times are based on.

    Raises:
        SweepError: When the devices that were asked for are not there, or none has the memory for a job.
    """
    budget = budget_of(configs, settings, engine, forecast)
    refuse_hopeless(configs, budget, settings)
    clock, slots = budget.clock(), len(budget.slots)
    plan = make_plan(configs, settings.pack_size, first_pack, slots=slots, fits=budget.fits, clock=clock)
    return plan, budget, clock.basis


def budget_of(configs: Mapping[int, JobConfig], settings: Settings, engine: Engine, forecast: Forecast) -> Budget:
    """What the slots that there are now allow.

    Raises:
        SweepError: When the devices that were asked for are not there.
    """
    listed = list(configs.values())
    slots = engine.slots(listed[0].trainer.accelerator, settings.slots)
    return budget_for(forecast, slots, listed, shown=settings.plan_only)


def show_plan(points: Sequence[Point], settings: Settings, outside: Outside, naming: Names) -> None:
    """Print what would be done; nothing is created.

    Raises:
        SweepError: When the devices that were asked for are not there, or none has the memory for a job.
    """
    configs = {point.index: point.config for point in points}
    engine = engine_of(settings)
    settings = with_slots(settings, engine, list(configs.values()))
    plan, budget, basis = plan_of(configs, settings, engine, outside.forecast)
    names = naming.name(list(configs.values()), [point.overrides() for point in points]).names
    print_plan(PatientConsole(highlight=False), plan, configs, dict(zip(configs, names, strict=True)), budget, basis)
    remarks = remarked({n: Asked(config=config) for n, config in configs.items()}, outside.looks, Path.cwd())
    warned = {name: (*one.warnings, *remarks[one.index]) for name, one in zip(names, points, strict=True)}
    say([*_noted(points), *told(warned)])


def run_sweep(  # noqa: PLR0913  # what a sweep is made of
    points: Sequence[Point],
    sweep_dir: Path,
    sweep_id: str,
    settings: Settings,
    outside: Outside,
    naming: Names,
    *,
    begun: bool = False,
    notes: Sequence[str] = (),
) -> list[JobOutcome]:
    """Train the points, in ``sweep_dir``.

    Args:
        points: Checked points, in order.
        sweep_dir: The sweep's folder.
        sweep_id: The sweep's id.
        settings: What the launcher's configuration says.
        outside: What other rooms do for it.
        naming: Names its jobs.
        begun: Whether earlier points of this sweep were run by this process already.
        notes: What the user is told first.

    Returns:
        How each point ended, in order.

    Raises:
        SweepError: When the sweep cannot start; nothing trains then.
    """
    sweep_dir = sweep_dir.absolute()
    refuse_taken(sweep_dir, points, begun=begun)
    earlier = read_sweep(sweep_dir).jobs if begun else ()
    overrides = [point.overrides() for point in points]
    named = naming.name([point.config for point in points], overrides)
    configs = {point.index: point.config for point in points}
    engine = engine_of(settings)
    settings = with_slots(settings, engine, list(configs.values()))
    first_pack = len({job.pack for job in earlier})
    plan, budget, basis = plan_of(configs, settings, engine, outside.forecast, first_pack)
    check_locks(share=settings.share)
    record = read_sweep(sweep_dir) if begun else create_sweep(sweep_dir, sweep_id)
    jobs = _records(points, named, plan)
    with Journal(sweep_dir) as journal:
        journal.sign()
        try:
            write_jobs(points, named.names)
            record = add_jobs(sweep_dir, record, jobs)
        except OSError as error:
            msg = f"{sweep_dir} cannot be written ({error.strerror}); free some space, or give another folder"
            raise SweepError([msg]) from error
        journal.state = read_state(sweep_dir, stored=record)
        live = {job.index: LiveJob(record=job, now=journal.state.jobs[job.index]) for job in jobs}
        journal.write(SweepLine(id=record.id, jobs=tuple(sorted(live))))
        for pack, seconds in zip(plan.packs, plan.seconds, strict=True):
            predicted = round(seconds, 1)
            journal.write(PackLine(pack=pack.name, jobs=pack.jobs, rows=pack.rows, predicted_s=predicted))
        farm = Farm(sweep_dir, record, live, journal, settings, outside.finish)
        farm.notes = [*notes, *_noted(points), *named.notes, *plan.reasons]
        farm.warnings = _told(points, named.names)
        if basis == "measured":
            farm.notes.append(f"predicted to take {in_words(plan.ends_s)}, {BASIS[basis]}")
        farm.train(
            [Task(pack=pack, spool=sweep_dir / "spool" / f"{pack.name}.jsonl") for pack in plan.packs],
            Path.cwd(),
            engine,
            budget,
        )
    return [result for result in farm.results if result.job in live]


def settings_of(resumed: Resumed) -> Settings:
    """The launcher's options that a sweep began with.

    Raises:
        SweepError: When one of them is wrong.
    """
    stored = stored_launcher(resumed.jobs)
    if stored is None:
        say(["The launcher's options cannot be read (.hydra/hydra.yaml of the jobs): it goes on with the defaults"])
    settings = stored or Settings()
    settings.check()
    return settings


def run_resumed(resumed: Resumed, settings: Settings, outside: Outside) -> list[JobOutcome]:
    """Continue jobs of one sweep; arguments as :func:`run_sweep` has them.

    Raises:
        SweepError: When another process works in their sweep.
    """
    engine = engine_of(settings)
    settings = with_slots(settings, engine, [job.config for job in resumed.jobs], jobs=len(resumed.sweep.jobs))
    check_locks(share=settings.share)
    try:
        with Journal(resumed.sweep_dir) as journal:
            journal.sign()
            live = _resumed(resumed, journal)
            tasks = []
            for (name, jobs), spool in zip(resumed.packs, resumed.spools(), strict=True):
                for job in jobs:
                    journal.write(ResumedLine(job=job, spool=spool.name))
                rows = rows_of(live[job].record.config for job in jobs)
                tasks.append(Task(pack=PackPlan(name=name, jobs=jobs, rows=rows), spool=spool))
            farm = Farm(resumed.sweep_dir, resumed.sweep, live, journal, settings, outside.finish)
            farm.notes, configs = list(resumed.notes), {n: one.record.config for n, one in live.items()}
            farm.train(tasks, resumed.cwd, engine, budget_of(configs, settings, engine, outside.forecast))
    except SweepBusyError as error:
        raise SweepError([f"resume: {error}"]) from error
    return [result for result in farm.results if result.job in live]


def settle_sweep(sweep_dir: Path, finish: Finish) -> bool:
    """Give a sweep its results, picture and runs' ends whose workers ended every job after its launcher was killed.

    Returns:
        Whether that was left to do.

    Raises:
        SweepError: When another process works in it, or its record cannot be read.
    """
    sweep = read_sweep(sweep_dir)
    jobs = [] if read_state(sweep_dir, stored=sweep).settled else readable_jobs(sweep_dir)
    if not jobs:
        return False
    try:
        with Journal(sweep_dir) as journal:
            journal.sign()
            journal.state = read_state(sweep_dir, stored=sweep)
            live = {job.index: LiveJob(record=job, now=journal.state.jobs[job.index]) for job in jobs}
            farm = Farm(sweep_dir, sweep, live, journal, Settings(), finish)
            farm.notes = ["its workers ended every job after its launcher had gone: only the end is made up for"]
            farm.settle()
    except SweepBusyError as error:
        raise SweepError([f"resume: {error}"]) from error
    return True


def _noted(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(note for point in points for note in point.notes))


def _told(points: Sequence[Point], names: Sequence[str]) -> list[str]:
    return told({name: point.warnings for name, point in zip(names, points, strict=True)})


def _resumed(resumed: Resumed, journal: Journal) -> dict[int, LiveJob]:
    """The jobs that go on, in the state in which the sweep was left."""
    state = journal.state = read_state(resumed.sweep_dir, stored=resumed.sweep)
    return {
        job.index: LiveJob(record=job, now=state.jobs[job.index], resume=has_checkpoint(job.dir))
        for job in resumed.jobs
    }


def _records(points: Sequence[Point], named: Named, plan: Plan) -> list[JobRecord]:
    return [
        JobRecord(
            index=point.index,
            name=name,
            dir=point.dir,
            config=point.config,
            overrides=point.overrides(),
            pack=plan.pack_of(point.index).name,
            warnings=tags_of(point.warnings),
        )
        for point, name in zip(points, named.names, strict=True)
    ]
