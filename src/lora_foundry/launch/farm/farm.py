"""A sweep's jobs from the first worker to the table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.launch.farm.outcome import OUTCOME, code_of
from lora_foundry.launch.farm.outside import Finish
from lora_foundry.launch.farm.remaining import Remaining
from lora_foundry.launch.farm.signals import Interrupts
from lora_foundry.launch.farm.supervise import Supervisor
from lora_foundry.launch.farm.waiting import Task
from lora_foundry.launch.farm.writer import SafeWriter
from lora_foundry.launch.machines.engine import WORKER_LOST, Engine
from lora_foundry.launch.machines.sharing import Sharing
from lora_foundry.launch.plan.budget import Budget
from lora_foundry.launch.plan.sizes import Sizes
from lora_foundry.launch.points.names import show_value, swept_keys, told_shortly
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.record import StoredSweep
from lora_foundry.launch.screen.live import PatientConsole, Screen
from lora_foundry.launch.screen.table import near, plain, print_results, ui_command
from lora_foundry.wire.journal import EndedLine, WaitingLine
from lora_foundry.wire.outcomes import JobOutcome, write_outcomes


class Farm:
    """Jobs of one sweep on their way through workers.

    Attributes:
        notes: What the user is told first.
        warnings: What the user is warned of then.
        results: Of every job of the sweep, once it has ended.
    """

    def __init__(
        self,
        sweep_dir: Path,
        sweep: StoredSweep,
        jobs: dict[int, LiveJob],
        journal: Journal,
        settings: Settings,
        finish: Finish,
    ) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.results: list[JobOutcome] = []
        self._sweep_dir = sweep_dir
        self._sweep = sweep
        self._jobs = jobs
        self._journal = journal
        self._settings = settings
        self._finish = finish
        self._console = PatientConsole(highlight=False)

    def train(self, tasks: Sequence[Task], cwd: Path, engine: Engine, budget: Budget) -> None:
        """Run the packs on the budget's slots, then settle results, runs and picture."""
        jobs = [job.record for job in self._jobs.values()]
        accelerator = jobs[0].config.trainer.accelerator
        sizes = Sizes(self._settings.pack_size, self._settings.least_gain, self._journal.state.gains.values())
        writer = SafeWriter(self._sweep_dir, jobs, self._sweep.id, self._sweep.command)
        with Interrupts() as interrupts:
            with Screen(self._console, self._jobs) as screen:
                self._greet(screen)
                screen.watch(lambda: writer.problem)
                writer.start()
                with Sharing(
                    self._sweep_dir,
                    lambda: engine.slots(accelerator, self._settings.slots),
                    lambda lines: self._say_waiting(screen, lines),
                    share=self._settings.share,
                ) as sharing:
                    Supervisor(
                        sweep_dir=self._sweep_dir,
                        engine=engine,
                        slots=budget.slots,
                        settings=self._settings,
                        cwd=cwd,
                        jobs=self._jobs,
                        sizes=sizes,
                        fits=lambda configs: budget.on(sharing.known(budget.slots)).fits(configs),
                        journal=self._journal,
                        screen=screen,
                        interrupts=interrupts,
                        sharing=sharing,
                        remaining=Remaining(budget.quick_clock(), self._jobs),
                    ).run(tasks)
                interrupts.finishing = True
                code, picture = self._settle(screen, writer, interrupted=interrupts.asked)
            if not interrupts.hung_up:
                self._say_results(picture, writer, jobs[0].config.tracking)
        self._journal.write(EndedLine(exit_code=code))

    def settle(self) -> None:
        """Results, runs and picture of jobs that have all ended."""
        jobs = [job.record for job in self._jobs.values()]
        writer = SafeWriter(self._sweep_dir, jobs, self._sweep.id, self._sweep.command)
        with Screen(self._console, self._jobs) as screen:
            self._greet(screen)
            writer.start()
            code, picture = self._settle(screen, writer, interrupted=False)
        self._say_results(picture, writer, jobs[0].config.tracking)
        self._journal.write(EndedLine(exit_code=code))

    def _settle(self, screen: Screen, writer: SafeWriter, *, interrupted: bool) -> tuple[int, Path | None]:
        """The exit code and the picture."""
        screen.expect(None)
        self.results = self._journal.state.outcomes(self._sweep_dir)
        code = self._exit_code(interrupted=interrupted)
        OUTCOME.worsen(code)
        self._write_results(screen)
        if any((result.dir / "samples").is_dir() for result in self.results):
            screen.phase("drawing the comparison")
        picture = self._finish(self._sweep_dir, self.results)  # before the writer ends, which takes it along
        if writer.active:
            screen.phase("writing the last of the runs to MLflow")
        writer.close({result.job: result.state for result in self._own()})
        return code, picture

    def _write_results(self, screen: Screen) -> None:
        try:
            write_outcomes(self._sweep_dir, self.results)
        except OSError as error:
            screen.line(f"results.json was not written ({error}); {command_line('status')} shows them", "yellow")

    def _own(self) -> list[JobOutcome]:
        """How those of the sweep's jobs ended that were trained here."""
        return [result for result in self.results if result.job in self._jobs]

    def _exit_code(self, *, interrupted: bool) -> int:
        return code_of((result.state for result in self._own()), interrupted=interrupted)

    def _greet(self, screen: Screen) -> None:
        count = len(self._jobs)
        screen.line(f"Sweep of {count} {'jobs' if count > 1 else 'job'} in {near(self._sweep_dir)}", "bold")
        for note in self.notes:
            screen.line(f"  {note}", "dim")
        for warning in self.warnings:
            screen.line(f"  {warning}", "yellow")

    def _say_waiting(self, screen: Screen, lines: Sequence[str]) -> None:
        """Other sweeps have devices that this one could train on, or no longer."""
        self._journal.write(WaitingLine(lines=tuple(lines)))
        for line in lines:
            screen.line(line, "yellow")
        if lines and all(job.state == "PENDING" for job in self._jobs.values()):
            screen.phase("waiting for a device")

    def _say_results(self, picture: Path | None, writer: SafeWriter, tracking: TrackingConfig) -> None:
        console = self._console
        overrides = {result.job: result.overrides for result in self.results}
        keys = swept_keys(list(overrides.values()))
        swept: dict[int, dict[str, str]] = {index: {} for index in overrides}
        for key in keys:
            shown = {index: self._shown(index, key, given) for index, given in overrides.items()}
            told = told_shortly(key, shown.values())
            for index, value in shown.items():
                swept[index][key] = told[value]
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
        failed = [result for result in self._own() if result.state == "FAILED"]
        for result in failed:
            plain(self._console, f"FAILED:   {result.name}: {result.error}")
        if any((result.error or "").startswith(WORKER_LOST) for result in failed):
            plain(self._console, f"Continue: {command_line('retry', near(self._sweep_dir))}")
        elif any(result.state == "KILLED" for result in self._own()):
            plain(self._console, f"Continue: {command_line('resume', near(self._sweep_dir))}")

    def _shown(self, index: int, key: str, given: Mapping[str, str]) -> str:
        job = self._jobs.get(index)
        return show_value(job.record.config, key, given.get(key)) if job else given.get(key, "")
