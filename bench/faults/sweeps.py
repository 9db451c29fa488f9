"""Small real sweeps in processes of their own, and what can be seen of them from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench import PROJECT_ROOT
from lora_foundry.launch.records.journal import is_held, read_journal
from lora_foundry.wire.events import Event, MetricsEvent, read_events
from lora_foundry.wire.journal import JournalLine, WorkerLine

PATIENCE_S = 240.0  # for anything to happen; a sweep takes a quarter of a minute on two quiet cores
TRAIN = (sys.executable, "-m", "src.train")


class LostError(AssertionError):
    """Something was lost, doubled, or did not happen at all."""


def ensure(holds: object, what: str) -> None:
    """Raise :class:`LostError` unless ``holds``."""
    if not holds:
        raise LostError(what)


def until(holds: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until ``holds()``."""
    end = time.monotonic() + patience_s
    while not holds():
        ensure(time.monotonic() < end, f"waited {patience_s:g} s in vain for {what}")
        time.sleep(0.02)


J = TypeVar("J", bound=JournalLine)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A sweep over seeds; in 64-bit, where the equality contract holds to 1e-9 whatever a pack went through.

    Attributes:
        seeds: One job each.
        pack_size: Most members of a pack.
        steps: Optimizer steps of each job.
        words: What else the command line says.
        like: The grid with the same jobs, where this is a search, which asks for one seed after another.
    """

    seeds: tuple[int, ...]
    pack_size: int
    steps: int = 16
    words: tuple[str, ...] = ()
    like: Recipe | None = None

    def command(self) -> list[str]:
        """The command line behind ``python -m src.train``, without folders."""
        return [
            *("lora.rank=4", "lora.target_modules=attention", "data.batch_size=1", "trainer.precision=64-true"),
            *(f"trainer.max_steps={self.steps}", "trainer.log_every=1", "trainer.checkpoint_every=3"),
            *("scheduler.warmup_steps=2", "validation.every=5", "validation.timesteps=1", "validation.max_images=2"),
            *("sample=none", "tracking.flush_s=0.2", "hydra.launcher.backoff_s=0.05"),
            f"hydra.launcher.pack_size={self.pack_size}",
            *self._seeds(),
            *self.words,
            "-m",
        ]

    def _seeds(self) -> list[str]:
        listed = ",".join(map(str, self.seeds))
        if self.like is None:
            return [f"seed={listed}"]
        search = [f"hydra.sweeper.n_trials={len(self.seeds)}", "hydra.sweeper.sampler=grid", "hydra.sweeper.n_jobs=2"]
        return [f"seed=choice({listed})", "hydra/sweeper=optuna", *search]


PAIR = Recipe(seeds=(1, 2), pack_size=2)
FOUR = Recipe(seeds=(1, 2, 3, 4), pack_size=4, steps=24)
EIGHT = Recipe(seeds=tuple(range(8)), pack_size=4, steps=24)
TWO_PAIRS = Recipe(seeds=(1, 2, 3, 4), pack_size=2, words=("hydra.launcher.slots=2",))  # side by side
SEARCH = Recipe(seeds=(1, 2, 3, 4), pack_size=2, like=TWO_PAIRS)  # two trials at a time


class RealSweep:
    """A sweep in ``folder``, its launcher (or the launcher of its resume) and its workers.

    Args:
        folder: The sweep's folder, not yet there.
        recipe: What it trains.
        words: Folders of tracking and cache, and what the fault needs.
        popen: Starts processes, as :class:`subprocess.Popen` does.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, words: list[str], popen: type[subprocess.Popen[Any]] = subprocess.Popen
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.log = folder.with_suffix(".out")
        self.words = [*recipe.command(), *words, f"hydra.sweep.dir={folder}"]
        self.launcher: subprocess.Popen[bytes] | None = None
        self._popen = popen

    def start(self, command: tuple[str, ...] = TRAIN) -> RealSweep:
        """Start the launcher."""
        self.launcher = self.spawn([*command, *self.words])
        return self

    def resume(self, *options: str) -> RealSweep:
        """Start ``python -m src.resume``."""
        self.launcher = self.spawn([sys.executable, "-m", "src.resume", str(self.folder), *options])
        return self

    def spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """A process of this project whose output is appended to :attr:`log`."""
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "MPLBACKEND": "Agg"}
        with self.log.open("ab") as log, hang_ups_heard():
            return self._popen(command, cwd=PROJECT_ROOT, stdout=log, stderr=log, env=env, start_new_session=True)

    def ends(self, code: int) -> None:
        """Wait for the launcher's end, which must be ``code``."""
        launcher = self.running()
        try:
            got = launcher.wait(PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            raise LostError(f"the launcher did not end\n{self.said()[-3000:]}") from error
        ensure(got == code, f"the launcher ended with {got}, not {code}\n{self.said()[-3000:]}")

    def running(self) -> subprocess.Popen[bytes]:
        """The launcher's process."""
        if self.launcher is None:
            raise LostError("the sweep was not started")
        return self.launcher

    def ended(self) -> bool:
        """Whether the launcher has gone."""
        return self.running().poll() is not None

    def said(self) -> str:
        """All that launchers printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def journal(self, kind: type[J]) -> list[J]:
        """Lines of the journal that are of one kind."""
        return [line for line in read_journal(self.folder) if isinstance(line, kind)]

    def events(self) -> Iterator[Event]:
        """What workers told, spool after spool."""
        for spool in sorted((self.folder / "spool").glob("*.jsonl")):
            yield from read_events(spool)[0]

    def workers(self) -> list[int]:
        """Processes of workers that live, the latest last."""
        started = [line.pid for line in self.journal(WorkerLine) if line.state == "started"]
        return [pid for pid in started if is_alive(pid)]

    def step(self, since: float = 0.0) -> int:
        """The furthest optimizer step that a worker told of after ``since`` (unix seconds)."""
        steps = [int(e.step) for e in self.events() if isinstance(e, MetricsEvent) and float(e.t) >= since]
        return max(steps, default=0)

    def reaches(self, step: int) -> None:
        """Wait until some job has done ``step``."""
        until(lambda: self.step() >= step or self.ended(), f"step {step}")

    def is_held(self) -> bool:
        """Whether a launcher or a worker works in the folder."""
        return is_held(self.folder)

    def clean_up(self) -> None:
        """End what a failed check left running."""
        if self.launcher is not None and self.launcher.poll() is None:
            self.launcher.kill()
            self.launcher.wait()
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)

    def jobs(self) -> dict[int, dict[str, Any]]:
        """Rows of ``results.json`` by job number."""
        return {int(row["job"]): row for row in json.loads((self.folder / "results.json").read_text())}

    @property
    def id(self) -> str:
        """The sweep's id, which its MLflow runs carry."""
        return str(json.loads((self.folder / "sweep.json").read_text())["id"])


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[-1][:1] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def hang_ups_heard() -> Iterator[None]:
    """Under nohup SIGHUP is ignored, which a child inherits and the launcher respects."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
