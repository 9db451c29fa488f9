"""What fake workers do: they answer every command of the protocol and train nothing; :class:`Seed` tells how.

One turn is one small piece of work, so a process takes turns between two looks at its pipe, and an engine in memory
takes one whenever it is asked for events.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from omegaconf import OmegaConf

from lora_foundry.config.digest import config_digest
from lora_foundry.config.files import write_atomic
from lora_foundry.config.made_with import MadeWith, write_made_with
from lora_foundry.config.parse import parse
from lora_foundry.config.schema import JobConfig
from lora_foundry.data.inventory import take_inventory, write_form
from tests.launch.seeds import Seed
from tests.phrases import LOADING, MEMORY_SHORT, STOPPED

FELL_OVER = "RuntimeError: the fake worker fell over"


class DiesNow(Exception):  # noqa: N818  # nothing went wrong
    """The worker is to die here, as by SIGKILL; the message is what it leaves in its log."""


class HangsNow(Exception):  # noqa: N818
    """The worker is to do nothing more."""


def stored_config(folder: Path) -> JobConfig:
    """The configuration that the launcher left in a job's folder."""
    return parse(OmegaConf.load(folder / ".hydra" / "config.yaml"))


def first_time(folder: Path) -> bool:
    """Whether this is asked of ``folder`` for the first time."""
    mark = folder / "died-once"
    first = not mark.exists()
    mark.touch()
    return first


def begin(folder: Path, *, resume: bool) -> int:
    """The step to go on from: a resumed job does its last three steps once more."""
    steps = [int(path.stem.removeprefix("step-")) for path in folder.glob("checkpoints/step-*")]
    return max([0, *(step - 3 for step in steps)]) if resume else 0


class FakeTraining:
    """A worker's way through its commands.

    Args:
        sweep_dir: The sweep's folder; each command is noted in its ``commands.jsonl``.
        pid: Who notes it.
        now: The clock of the events (Unix seconds).
        config_of: Reads the configuration of the job in a folder.
        refuses: Why it does not train on its device, if so.
    """

    def __init__(
        self,
        sweep_dir: Path,
        pid: int,
        now: Callable[[], float],
        config_of: Callable[[Path], JobConfig],
        refuses: str | None = None,
    ) -> None:
        self.refuses = refuses
        self.sweep_dir = sweep_dir
        self.pid = pid
        self.now = now
        self.config_of = config_of
        self.packs: list[dict] = []
        self.stopping = self.leaving = self._stopped_all = False
        self.stopped: set[int] = set()
        self.pruned: set[int] = set()
        self.pack: PackPlan | None = None
        self.joining: list[dict] = []

    @property
    def over(self) -> bool:
        """Whether the worker has nothing left and was told to go."""
        return self.pack is None and (self._stopped_all or (self.leaving and not self.packs))

    def take(self, command: dict) -> None:
        """Note a command and heed it at the next turn."""
        with (self.sweep_dir / "commands.jsonl").open("a") as file:
            file.write(json.dumps({**command, "pid": self.pid}) + "\n")
        name = command["cmd"]
        if name == "join" and self.pack is not None and command["pack"] == self.pack.name:
            self.joining += command["jobs"]
        elif name in ("pack", "join"):
            self.packs.append(command)
        elif name == "stop_job":
            self.stopped.add(command["job"])
        elif name == "prune_job":
            self.pruned.add(command["job"])
        self.stopping = self.stopping or name == "stop"
        self.leaving = self.leaving or name in ("exit", "stop")

    def turn(self) -> None:
        """Begin a pack, take one step of it, or end it.

        Raises:
            DiesNow: When the worker is to die.
            HangsNow: When it is to do nothing more.
        """
        if self.packs and self.refuses is not None:
            PackPlan(self, self.packs.pop(0)).tell("worker", None, state="no_device", reason=self.refuses)
            self.leaving = True
        elif self.pack is None:
            if self.packs:
                self.pack = PackPlan(self, self.packs.pop(0))
                self.pack.start()
            self._stopped_all = self.stopping and self.pack is None
        elif self.stopping and self.pack.has(Seed.DEAF):
            return
        elif self.stopping or self.pack.over:
            self._end(self.pack)
        else:
            self.pack.step()
            self._let_in(self.pack)

    def _let_in(self, pack: PackPlan) -> None:
        if not self.joining or not pack.alive:
            return
        entries, self.joining = self.joining, []
        if pack.has(Seed.HAS_NO_ROOM):
            jobs = [entry["job"] for entry in entries]
            pack.tell("worker", None, state="refused", jobs=jobs, reason=MEMORY_SHORT)
        else:
            pack.let_in(entries)

    def _end(self, pack: PackPlan) -> None:
        for number in () if pack.broken else sorted(pack.alive):
            pack.tell("state", number, state="KILLED", error=None, summary=None)
        if self.joining:  # too late for that pack: they are the next
            self.packs.insert(0, {**pack.command, "jobs": self.joining})
            self.joining = []
        pack.tell("worker", None, state="pack_ended", pack=pack.name, jobs=sorted(pack.jobs))
        self.pack, self._stopped_all = None, self.stopping


class PackPlan:
    """Jobs that a fake worker trains together."""

    def __init__(self, training: FakeTraining, command: dict) -> None:
        self.training = training
        self.command = command
        self.name = command["pack"]
        self.jobs: dict[int, dict] = {}
        self.configs: dict[int, JobConfig] = {}
        self.done: dict[int, int] = {}
        self.least: dict[int, int] = {}
        self.alive: set[int] = set()
        self.steps = 0
        self.broken = False

    @property
    def over(self) -> bool:
        return self.broken or not self.alive

    def tell(self, kind: str, job: int | None, **values: object) -> None:
        with Path(self.command["spool"]).open("a") as file:
            file.write(json.dumps({"t": self.training.now(), "kind": kind, "job": job, **values}) + "\n")

    def has(self, seed: Seed) -> bool:
        return any(self.configs[number].seed == seed for number in self.alive)

    def start(self) -> None:
        jobs = [entry["job"] for entry in self.command["jobs"]]
        self.tell("worker", None, state="pack_started", pack=self.name, jobs=jobs)
        self.tell("log", None, level="info", message=LOADING)
        self.let_in(self.command["jobs"])

    def let_in(self, entries: list[dict]) -> None:
        for entry in entries:
            number = entry["job"]
            folder = Path(entry["dir"])
            self.jobs[number], self.done[number] = entry, begin(folder, resume=entry["resume"])
            if not entry["resume"] and (donor := entry.get("donor")) is not None:
                self.fork(number, donor)
            self.least[number] = self.done[number] + 5
            self.configs[number] = self.training.config_of(folder)
            record(self.training.sweep_dir, folder, self.configs[number], self.training.now())
            self.alive.add(number)
        for number in (entry["job"] for entry in entries):
            self.tell("state", number, state="RUNNING", error=None, summary=None)

    def fork(self, number: int, donor: dict) -> None:
        """Begin where another is, or left off."""
        here = self.done.get(donor["job"]) if donor["job"] in self.alive else None
        step = begin(Path(donor["dir"]), resume=True) if here is None else here
        self.done[number] = step
        self.tell("forked", number, lineage={"of": donor["job"], "name": donor["name"], "step": step, "samples": step})

    def step(self) -> None:
        self.steps += 1
        for number in sorted(self.alive):
            self.done[number] += 1
            self.progress(number)
            if self.misbehaves(number):
                return
            self.end(number)

    def total(self, number: int) -> int:
        steps = self.configs[number].trainer.max_steps or 5
        return steps if steps < 50 else 5

    def progress(self, number: int) -> None:
        step, folder = self.done[number], Path(self.jobs[number]["dir"])
        lora = self.configs[number].lora  # the less of either, the better it does, here and at its end
        values = {"train/loss": 1 / step, "val/loss_rel": 0.8 + lora.rank / 100 + lora.dropout + 1 / step}
        self.tell("metrics", number, step=step, samples=step, values=values)
        self.tell("judged", number, by_item=self.judged(number))
        self.tell(
            *("progress", number),
            step=step,
            total=self.total(number),
            samples=self.steps,
            loss=1 / self.steps,
            samples_per_s=9.5,
        )
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / f"step-{step:08}.safetensors").touch()

    def judged(self, number: int) -> dict[str, object]:
        """Losses of four images that fall by a tenth a step; at the end their mean is what the job finishes with."""
        step, config = self.done[number], self.configs[number]
        mean = 0.8 + config.lora.rank / 100 + 0.1 * (self.total(number) - step)
        tilt = 0.001 * (config.seed % 10 + 1)
        losses = [mean + 0.1 + tilt, mean - 0.1 - tilt, mean + 0.05 - tilt, mean - 0.05 + tilt]
        items = ["a.png", "b.png", "c.png", "d.png"]
        return {
            "step": step,
            "samples": step,
            "rows": "r",
            "items": items,
            "relative": losses,
            "base": [1.0] * 4,
        }

    def misbehaves(self, number: int) -> bool:
        """Do what the seed says; true when the pack's step is over with it."""
        seed, folder = self.configs[number].seed, Path(self.jobs[number]["dir"])
        if seed == Seed.HANGS_ONCE and self.steps == 3 and first_time(folder):
            raise HangsNow
        if seed == Seed.BREAKS and self.steps == 3 and len(self.jobs) > 1:
            self.tell("worker", None, state="pack_broken", pack=self.name, error="ValueError: no")
            self.broken = True
        if self.steps == 3 and (seed == Seed.DIES or (seed == Seed.DIES_ONCE and first_time(folder))):
            raise DiesNow(FELL_OVER)
        if seed == Seed.GAINS_NOTHING and self.steps == 2 and self.command.get("least_gain") and len(self.alive) > 1:
            self.hand_back(number)
            return True
        return self.broken

    def hand_back(self, number: int) -> None:
        count = len(self.alive)
        seconds = {str(count): 1.0, "1": 0.9}
        self.tell("worker", None, state="gain", members=count, rows=count, chosen=1, ratio=1.0, seconds=seconds)
        self.tell("worker", None, state="handed_back", jobs=sorted(self.alive - {number}))
        self.alive = {number}

    def end(self, number: int) -> None:
        seed, stopped = self.configs[number].seed, number in self.training.stopped
        if stopped and seed == Seed.DIES_OF_STOP_ONCE and first_time(Path(self.jobs[number]["dir"])):
            raise DiesNow
        if number in self.training.pruned:
            self.tell("state", number, state="PRUNED", error=None, summary=None)
        elif stopped:
            self.tell("state", number, state="KILLED", error=STOPPED, summary=None)
        elif seed == Seed.DIVERGES and self.steps == 2:
            self.tell("state", number, state="FAILED", error="the loss is not finite at step 2", summary=None)
        elif self.done[number] >= max(self.total(number), self.least[number]) and not self.endless(seed):
            self.finish(number)
        elif not (seed == Seed.ENDS_UNSAID and self.steps == 2):
            return
        self.alive.discard(number)

    def endless(self, seed: int) -> bool:
        lasting = (Seed.DIES_OF_STOP_ONCE, Seed.ENDLESS, Seed.DEAF)
        return seed in lasting and not (self.training.sweep_dir / "let-end").exists()

    def finish(self, number: int) -> None:
        entry, rank, total = self.jobs[number], self.configs[number].lora.rank, self.total(number)
        file = Path(entry["dir"]) / "adapter" / f"{entry['name']}.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"\0" * 1024 * rank)
        summary = {"val_loss": 0.2 + rank / 100, "val_loss_rel": 0.8 + rank / 100, "steps": total, "samples": total}
        summary |= {"seconds": 1.5, "bytes": 1024 * rank, "file": str(file), "resumed": entry["resume"]}
        self.tell("state", number, state="FINISHED", error=None, summary=summary)
        if self.configs[number].seed == Seed.FAILS_LATE:
            self.tell("state", number, state="FAILED", error="the pack fell over later", summary=None)


def record(sweep_dir: Path, folder: Path, config: JobConfig, now: float) -> None:
    """What the job trains with, as the real worker notes it; for data of a test's own, which may change."""
    if not Path(config.data.path).is_absolute():
        return
    name, text = write_form(take_inventory(config.data, []))
    write_atomic(sweep_dir / "data" / name, text)
    digest, inventory = config_digest(config), os.path.relpath(sweep_dir / "data" / name, folder)
    made = MadeWith(asked=digest, config=digest, base="b", data="d", inventory=inventory, code="c", started=now)
    write_made_with(folder, made)
