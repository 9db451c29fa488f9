"""A worker that speaks the protocol and trains nothing; a job's name and seed say how it behaves.

Seed 13: the job fails. Seed 66: the process dies in the middle. Seed 77: it never ends by itself
(unless the sweep's folder holds ``let-end``). Seed 88: it ignores ``stop`` as well.
Seed 55: its pack ends without a word about it.
Seed 67: the process dies in the middle, the first time. Seed 33: it does nothing more, the first time.
Seed 99: its pack breaks unless it is alone in it.
Seed 31: its pack, when it is told to try, finds that training together gains nothing, and hands the others back.
Seed 32: its pack has no room for any other. Seed 34: the process dies when it is told to stop this job, the first time.
Seed 44: it finishes, and a later fault of the pack claims that it failed.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf

from src.config.digest import config_digest
from src.config.files import write_atomic
from src.config.made_with import MadeWith, write_made_with
from src.config.parse import parse
from src.config.schema import JobConfig
from src.data.inventory import take_inventory, write_form


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


def record(sweep_dir: Path, folder: Path, config: JobConfig) -> None:
    """What the job trains with, as the real worker notes it; for data of a test's own, which may change."""
    if not Path(config.data.path).is_absolute():
        return
    name, text = write_form(take_inventory(config.data, []))
    write_atomic(sweep_dir / "data" / name, text)
    digest, inventory = config_digest(config), os.path.relpath(sweep_dir / "data" / name, folder)
    made = MadeWith(asked=digest, config=digest, base="b", data="d", inventory=inventory, code="c", started=time.time())
    write_made_with(folder, made)


class Worker:
    def __init__(self, sweep_dir: Path) -> None:
        self.sweep_dir = sweep_dir
        self.packs: list[dict] = []
        self.stopping = self.leaving = False
        self.stopped: set[int] = set()
        self.under_way: str | None = None
        self.joining: list[dict] = []
        self.buffer = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ)

    def listen(self, wait_s: float) -> None:
        if not self.selector.select(wait_s):
            return
        data = os.read(sys.stdin.fileno(), 65536)
        if not data:
            self.stopping = self.leaving = True
            time.sleep(wait_s)
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            command = json.loads(line)
            with (self.sweep_dir / "commands.jsonl").open("a") as file:
                file.write(json.dumps({**command, "pid": os.getpid()}) + "\n")
            self.take(command)

    def take(self, command: dict) -> None:
        name = command["cmd"]
        if name == "join" and command["pack"] == self.under_way:
            self.joining += command["jobs"]
        elif name in ("pack", "join"):
            self.packs.append(command)
        elif name == "stop_job":
            self.stopped.add(command["job"])
        self.stopping = self.stopping or name == "stop"
        self.leaving = self.leaving or name in ("exit", "stop")

    def run(self) -> None:
        while not (self.leaving and not self.packs):
            self.listen(0.02)
            if self.packs:
                self.train(self.packs.pop(0))
            if self.stopping:
                return

    def train(self, command: dict) -> None:
        self.under_way = command["pack"]
        pack = Pack(command, self.stopped, self.sweep_dir)
        pack.tell("worker", None, state="pack_started", pack=command["pack"], jobs=[e["job"] for e in command["jobs"]])
        pack.tell("log", None, level="info", message="loading the base")
        pack.let_in(command["jobs"])
        while pack.alive and not self.stopping and not pack.broken:
            pack.step()
            self.listen(0.01)
            self.let_in(pack)
            while self.stopping and pack.has(88):
                time.sleep(0.1)
        for number in () if pack.broken else sorted(pack.alive):
            pack.tell("state", number, state="KILLED", error=None, summary=None)
        self.under_way = None
        self.late(command)
        pack.tell("worker", None, state="pack_ended", pack=command["pack"], jobs=sorted(pack.jobs))

    def let_in(self, pack: Pack) -> None:
        if not self.joining or not pack.alive:
            return
        entries, self.joining = self.joining, []
        if pack.has(32):
            jobs = [entry["job"] for entry in entries]
            pack.tell("worker", None, state="refused", jobs=jobs, reason="memory is short")
        else:
            pack.let_in(entries)

    def late(self, command: dict) -> None:
        if self.joining:  # too late for that pack: they are the next
            self.packs.insert(0, {**command, "jobs": self.joining})
            self.joining = []


class Pack:
    def __init__(self, command: dict, stopped: set[int], sweep_dir: Path) -> None:
        self.command = command
        self.stopped = stopped
        self.jobs: dict[int, dict] = {}
        self.configs: dict[int, JobConfig] = {}
        self.done: dict[int, int] = {}
        self.least: dict[int, int] = {}
        self.sweep_dir = sweep_dir
        self.alive: set[int] = set()
        self.steps = 0
        self.broken = False

    def tell(self, kind: str, job: int | None, **values: object) -> None:
        with Path(self.command["spool"]).open("a") as file:
            file.write(json.dumps({"t": time.time(), "kind": kind, "job": job, **values}) + "\n")

    def has(self, seed: int) -> bool:
        return any(self.configs[number].seed == seed for number in self.alive)

    def let_in(self, entries: list[dict]) -> None:
        for entry in entries:
            number = entry["job"]
            folder = Path(entry["dir"])
            self.jobs[number], self.done[number] = entry, begin(folder, resume=entry["resume"])
            self.least[number] = self.done[number] + 5
            self.configs[number] = parse(OmegaConf.load(folder / ".hydra" / "config.yaml"))
            record(self.sweep_dir, folder, self.configs[number])
            self.alive.add(number)
        for number in (entry["job"] for entry in entries):
            self.tell("state", number, state="RUNNING", error=None, summary=None)

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
        self.tell("metrics", number, step=step, samples=step, values={"train/loss": 1 / step})
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

    def misbehaves(self, number: int) -> bool:
        """Do what the seed says; true when the pack's step is over with it."""
        seed, folder = self.configs[number].seed, Path(self.jobs[number]["dir"])
        if seed == 33 and self.steps == 3 and first_time(folder):
            time.sleep(3600)
        if seed == 99 and self.steps == 3 and len(self.jobs) > 1:
            self.tell("worker", None, state="pack_broken", pack=self.command["pack"], error="ValueError: no")
            self.broken = True
        if self.steps == 3 and (seed == 66 or (seed == 67 and first_time(folder))):
            print("RuntimeError: the fake worker fell over", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if seed == 31 and self.steps == 2 and self.command.get("least_gain") and len(self.alive) > 1:
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
        seed = self.configs[number].seed
        if number in self.stopped and seed == 34 and first_time(Path(self.jobs[number]["dir"])):
            os.kill(os.getpid(), signal.SIGKILL)
        if number in self.stopped:
            self.tell("state", number, state="KILLED", error="stopped on request", summary=None)
        elif seed == 13 and self.steps == 2:
            self.tell("state", number, state="FAILED", error="the loss is not finite at step 2", summary=None)
        elif self.done[number] >= max(self.total(number), self.least[number]) and not self.endless(seed):
            self.finish(number)
        elif not (seed == 55 and self.steps == 2):
            return
        self.alive.discard(number)

    def endless(self, seed: int) -> bool:
        return seed in (34, 77, 88) and not (self.sweep_dir / "let-end").exists()

    def finish(self, number: int) -> None:
        entry, rank, total = self.jobs[number], self.configs[number].lora.rank, self.total(number)
        file = Path(entry["dir"]) / "adapter" / f"{entry['name']}.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"\0" * 1024 * rank)
        summary = {"val_loss": 0.2 + rank / 100, "val_loss_rel": 0.8 + rank / 100, "steps": total, "samples": total}
        summary |= {"seconds": 1.5, "bytes": 1024 * rank, "file": str(file), "resumed": entry["resume"]}
        self.tell("state", number, state="FINISHED", error=None, summary=summary)
        if self.configs[number].seed == 44:
            self.tell("state", number, state="FAILED", error="the pack fell over later", summary=None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sweep-dir", type=Path, required=True)
    worker = Worker(parser.parse_args().sweep_dir)
    signal.signal(signal.SIGTERM, lambda *_: setattr(worker, "stopping", True))
    worker.run()
