"""What the user sees while jobs train: live lines on a terminal, plain ones in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from lora_foundry.launch.plan.clock import in_words
from lora_foundry.launch.plan.packing import PackPlan
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.wire.states import ENDED

_TRAINING = "training"
_PLAIN_S = 10.0
_LIVE_S = 0.25  # drawing costs the worker's cores a few milliseconds
_STYLE = {"FINISHED": "green", "FAILED": "bold red", "KILLED": "yellow", "RUNNING": "cyan", "PRUNED": "dim"}
_WORD = {"FINISHED": "finished", "FAILED": "FAILED", "KILLED": "stopped", "RUNNING": "running", "PRUNED": "pruned"}


class PatientConsole(Console):
    """A console whose reader may leave (``| head``) without ending the program, as Rich's own would."""

    def on_broken_pipe(self) -> None:
        """Write to nowhere from here on."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def is_live(console: Console) -> bool:
    """Whether lines can be drawn over; a terminal that cannot (``TERM=dumb``) is written to like a file."""
    return console.is_terminal and not console.is_dumb_terminal


class Screen:
    """Shows jobs; safe to keep calling when the terminal has gone."""

    def __init__(self, console: Console, jobs: Mapping[int, LiveJob]) -> None:
        self.console = console
        self._jobs = jobs
        self._packs: dict[str, PackPlan] = {}
        self._phase = ""
        self._kept = False
        self._stages: dict[str, str] = {}
        self._printed: dict[str | None, str] = {}
        self._left_s: float | None = None
        self._muted = False
        self._said_at = time.monotonic()
        self._spinner = Spinner("dots" if console.encoding.startswith("utf") else "line")
        self._said_step: dict[int, int] = {}
        self._last_error = ""
        self._trouble: Callable[[], str | None] = lambda: None
        self._trouble_said = False
        self._live: Live | None = None

    def __enter__(self) -> Screen:
        if is_live(self.console):
            self._live = Live(
                console=self.console,
                get_renderable=self._render,
                refresh_per_second=8,
                transient=True,
                auto_refresh=False,
            )
            self._quietly(self._live.start)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._quietly(self._live.stop)
            self._live = None

    def watch(self, trouble: Callable[[], str | None]) -> None:
        """Say once, while jobs train, what ``trouble`` returns (tracking that is away)."""
        self._trouble = trouble

    def mute(self) -> None:
        """Write nothing more: the terminal is gone."""
        self._muted = True

    def line(self, text: str | Text, style: str = "") -> None:
        """One message, above the live lines; long words such as paths are not broken."""
        shown = text if isinstance(text, Text) else Text(text, style=style)
        self._quietly(lambda: self.console.print(shown, soft_wrap=True))

    def pack(self, pack: PackPlan) -> None:
        """A pack begins."""
        self._packs[pack.name] = pack
        if len(self._jobs) > len(pack.jobs):
            names = ", ".join(self._jobs[number].record.name for number in pack.jobs)
            self.line(f"{pack.name}: {names}")

    def joined(self, pack: PackPlan, joining: Sequence[int]) -> None:
        """Waiting jobs take free places of a pack under way."""
        names = ", ".join(self._jobs[number].record.name for number in joining)
        self.line(f"{pack.name}: {names} {'join' if len(joining) > 1 else 'joins'}")
        self.regrouped(pack)

    def regrouped(self, pack: PackPlan) -> None:
        """A pack consists of other jobs from here on."""
        self._packs[pack.name] = pack

    def over(self, pack: PackPlan) -> None:
        """A pack is no longer trained."""
        self._packs.pop(pack.name, None)
        self._stages.pop(pack.name, None)

    def expect(self, left_s: float | None) -> None:
        """Seconds until all is over; null while that is not known."""
        self._left_s = left_s

    def phase(self, text: str, *, keep: bool = False) -> None:
        """What the launcher does; ``keep`` lets nothing that a worker says take its place."""
        self._phase, self._kept = text, keep
        self._print(None, text)
        self.refresh()

    def stage(self, pack: str, text: str, *, worth_a_line: bool = True) -> None:
        """Where a pack is: checking data, loading the base, training, exporting."""
        self._stages[pack] = text
        self._phase = self._phase if self._kept else ""
        if worth_a_line:
            self._print(pack if len(self._packs) > 1 else None, text)
        self.refresh()

    def stepped(self, job: LiveJob, pack: str) -> None:
        """A job took steps: whatever was done between them is over, until its last step is."""
        if self._stages.get(pack) != _TRAINING and job.step < job.total:
            self.stage(pack, _TRAINING, worth_a_line=False)

    def _print(self, whose: str | None, text: str) -> None:
        if self._live is None and self._printed.get(whose) != text:
            self._printed[whose] = text
            self.line(f"... {text}" if whose is None else f"... {whose}: {text}")

    def said(self, job: LiveJob | None, level: str, message: str, pack: str | None = None) -> None:
        """A message of the worker of ``pack``: plain information tells where it is, the rest stays on the screen."""
        who = f"{job.record.name}: " if job and not message.startswith(job.record.name) else ""
        if level in ("info", "stage"):
            if pack is None:
                self.phase(who + message)
            else:
                self.stage(pack, who + message, worth_a_line=level == "info")
            return
        if level == "error":
            if message == self._last_error:
                return  # one cause, told for each job of the pack
            self._last_error = message
        self.line(f"{who}{message}", "red" if level == "error" else "yellow")

    def changed(self, job: LiveJob) -> None:
        """A job has a new state: ends are said at once."""
        if job.state in ENDED or self._live is None:
            text = Text(f"{job.record.name} ").append(_WORD[job.state], style=_STYLE[job.state])
            self.line(text.append(_details(job)))
        self.refresh()

    def last_words(self, words: str, log: Path) -> None:
        """The end of a dead worker's log."""
        if words:
            self.line(f"Last lines of {log}:", "dim")
            self.line("\n".join(f"    {line}" for line in words.splitlines()), "dim")

    def refresh(self) -> None:
        """Draw the live lines again (four times a second at most), or print plain ones every ten seconds."""
        trouble = None if self._trouble_said else self._trouble()
        if trouble:
            self._trouble_said = True
            self.line(trouble, "yellow")
        since = time.monotonic() - self._said_at
        if since < (_PLAIN_S if self._live is None else _LIVE_S):
            return
        self._said_at = time.monotonic()
        if self._live is not None:
            self._quietly(self._live.refresh)
        else:
            for job in self._shown():
                if job.state == "RUNNING" and job.step != self._said_step.get(job.record.index, 0):
                    self._said_step[job.record.index] = job.step
                    self.line(_plain(job))
            if self._left_s is not None and len(self._jobs) > 1:
                self.line(f"... {self._outlook()}")

    def _quietly(self, draw: Callable[[], Any]) -> None:
        """A closed pipe or a terminal that hung up ends the showing, not the training."""
        if self._muted:
            return
        try:
            draw()
        except OSError:
            self._muted = True

    def _shown(self) -> list[LiveJob]:
        return [self._jobs[number] for pack in self._packs.values() for number in pack.jobs]

    def _render(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_column(width=22)
        for _ in range(4):
            grid.add_column(justify="right", no_wrap=True)
        for job in self._shown():
            if not job.ended:
                grid.add_row(*_row(job))
        self._spinner.update(text=Text(self._doing(), style="cyan"))
        return Group(grid, self._spinner, *([Text(f"  {told}", style="cyan")] if (told := self._outlook()) else []))

    def _doing(self) -> str:
        """What is done now; of several packs each, where they are not at the same."""
        waiting = sum(job.state == "PENDING" for job in self._jobs.values()) - sum(
            job.state == "PENDING" for job in self._shown()
        )
        stages = {pack: text for pack, text in self._stages.items() if pack in self._packs}
        said = list(dict.fromkeys(stages.values()))
        several = "; ".join(f"{pack}: {text}" for pack, text in stages.items())
        doing = self._phase or (said[0] if len(said) == 1 else several) or "ending the workers"
        return doing + (f"; {waiting} more waiting" if waiting else "")

    def _outlook(self) -> str:
        """How long the whole sweep takes yet, its speed and the memory it has."""
        running = [job for job in self._shown() if job.state == "RUNNING"]
        speed = sum(job.now.samples_per_s or 0.0 for job in running)
        packs = [[self._jobs[number].now.memory_gib or 0.0 for number in pack.jobs] for pack in self._packs.values()]
        gib = sum(max(taken, default=0.0) for taken in packs)
        told = (
            [f"about {in_words(self._left_s)} left for all"] if self._left_s is not None and len(self._jobs) > 1 else []
        )
        told += [f"{speed:.3g} samples/s"] if speed else []
        return ", ".join([*told, *([f"{gib:.3g} GiB"] if gib else [])])


def _row(job: LiveJob) -> list[RenderableType]:
    bar = ProgressBar(total=max(job.total, 1), completed=job.step, width=22)
    return [
        Text(job.record.name),
        bar,
        Text(f"{job.step}/{job.total}" if job.total else ""),
        Text(f"loss {job.now.loss:.4f}" if job.now.loss is not None else "", style="cyan"),
        Text(f"{job.now.samples_per_s:.3g} samples/s" if job.now.samples_per_s else ""),
        Text(_clock(job.remaining_s()), style="dim"),
    ]


def _plain(job: LiveJob) -> str:
    parts = [f"{job.record.name} step {job.step}/{job.total}"]
    parts += [f"loss {job.now.loss:.4f}"] if job.now.loss is not None else []
    parts += [f"{job.now.samples_per_s:.3g} samples/s"] if job.now.samples_per_s else []
    left = _clock(job.remaining_s())
    return ", ".join([*parts, *([left] if left else [])])


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"


def _details(job: LiveJob) -> str:
    told = job.now.summary
    if job.state == "FINISHED" and told is not None and told.val_loss is not None:
        tail = f" ({told.val_loss_rel:.3f} of the base's)" if told.val_loss_rel is not None else ""
        return f", val loss {told.val_loss:.4f}{tail}"
    return f": {job.now.error}" if job.now.error else ""
