"""The end of a sweep: its results, the runs' last states, the picture, the table, and what the process ends with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.swept import swept_keys
from lora_foundry.launch.farm.book import Book
from lora_foundry.launch.farm.outcome import OUTCOME, code_of
from lora_foundry.launch.farm.outside import Outside, Report
from lora_foundry.launch.farm.writer import SafeWriter
from lora_foundry.launch.machines.engine import WORKER_LOST
from lora_foundry.launch.points.names import show_value, told_shortly
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.screen.live import Screen
from lora_foundry.launch.screen.table import near, plain, print_results, ui_address, ui_command
from lora_foundry.wire.outcomes import JobOutcome, write_outcomes
from lora_foundry.wire.verdict import write_verdict


class Ending:
    """What is made of a sweep once nothing of it trains any more.

    Args:
        book: The sweep's.
        jobs: Those that the farm had, by number.
        writer: To MLflow.
        screen: Where the user is told.

    Attributes:
        results: Of every job of the sweep.
        code: What the process ends with.
        picture: The comparison, where there is one.
        page: The report, where one was written.
    """

    def __init__(self, book: Book, jobs: Mapping[int, LiveJob], writer: SafeWriter, screen: Screen) -> None:
        self.results: list[JobOutcome] = book.outcomes()
        self.code = 0
        self.picture: Path | None = None
        self.page: Path | None = None
        self._folder = book.folder
        self._jobs = jobs
        self._writer = writer
        self._screen = screen

    def make(self, outside: Outside, *, report: bool, interrupted: bool) -> None:
        """Results, picture, page and the runs' last states; the exit code is kept for the process.

        Args:
            outside: Who draws and writes.
            report: Whether the page is wanted.
            interrupted: Whether somebody asked for the end.
        """
        screen = self._screen
        screen.expect(None)
        self.code = code_of((result.state for result in self._own()), interrupted=interrupted)
        OUTCOME.worsen(self.code)
        OUTCOME.sweep_dir = self._folder
        self._write_results()
        if any((result.dir / "samples").is_dir() for result in self.results):
            screen.phase("drawing the comparison")
        self.picture = outside.finish(self._folder, self.results)  # before the writer ends, which takes both along
        self.page = self._written(outside.report) if report and outside.report is not None else None
        if self._writer.active:
            screen.phase("writing the last of the runs to MLflow")
        self._writer.close({result.job: result.state for result in self._own()})

    def say(self) -> None:
        """The table, and what to do next."""
        console = self._screen.console
        try:
            print_results(console, self._folder, self.results, self._swept())
            if self.picture is not None:
                plain(console, f"Picture:  {near(self.picture)}")
            if self.page is not None:
                plain(console, f"Report:   {near(self.page)}")
            finished = [result for result in self.results if result.state == "FINISHED"]
            if finished:
                folder = finished[0].dir if len(finished) == 1 else self._folder / "*"
                plain(console, f"Adapters: {near(folder / 'adapter')}")
            if self._writer.problem:
                plain(console, f"MLflow:   {self._writer.problem}")
            elif self._writer.active:
                tracking = next(iter(self._jobs.values())).record.config.tracking
                plain(console, f"MLflow:   {ui_command(tracking)}")
                view, address = self._writer.view, ui_address(tracking)
                if view is not None and address is not None:
                    plain(console, f"View:     {address}/{view}")
            self._say_unfinished()
        except OSError:
            return  # the reader of our output has gone; everything said stands in results.json

    def _own(self) -> list[JobOutcome]:
        """How those of the sweep's jobs ended that were trained here."""
        return [result for result in self.results if result.job in self._jobs]

    def _write_results(self) -> None:
        from lora_foundry.judge.verdict import verdict_of

        try:
            write_outcomes(self._folder, self.results)
            write_verdict(self._folder, verdict_of(self.results))
        except OSError as error:
            line = f"results.json was not written ({error}); {command_line('status')} shows them"
            self._screen.line(line, "yellow")

    def _written(self, report: Report) -> Path | None:
        """The page; what the sweep made is worth more than it, so that no fault of it is one of the sweep."""
        self._screen.phase("writing the report")
        try:
            return report(self._folder)
        except Exception as error:  # noqa: BLE001  # told, and the command that shows all of it is named
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            again = command_line("report", self._folder)
            self._screen.line(f"report.html was not written ({why}); {again} tries again", "yellow")
            return None

    def _swept(self) -> dict[int, dict[str, str]]:
        """What is swept, of each job."""
        overrides = {result.job: result.overrides for result in self.results}
        swept: dict[int, dict[str, str]] = {index: {} for index in overrides}
        for key in swept_keys([*overrides.values()]):
            shown = {index: self._shown(index, key, given) for index, given in overrides.items()}
            told = told_shortly(key, shown.values())
            for index, value in shown.items():
                swept[index][key] = told[value]
        return swept

    def _shown(self, index: int, key: str, given: Mapping[str, str]) -> str:
        job = self._jobs.get(index)
        return show_value(job.record.config, key, given.get(key)) if job else given.get(key, "")

    def _say_unfinished(self) -> None:
        console = self._screen.console
        failed = [result for result in self._own() if result.state == "FAILED"]
        for result in failed:
            plain(console, f"FAILED:   {result.name}: {result.error}")
        if any((result.error or "").startswith(WORKER_LOST) for result in failed):
            plain(console, f"Continue: {command_line('retry', near(self._folder))}")
        elif any(result.state == "KILLED" for result in self._own()):
            plain(console, f"Continue: {command_line('resume', near(self._folder))}")
