"""A worker that speaks the protocol and trains nothing; a job's name and seed say how it behaves.

Seed 13: the job fails. Seed 66: the process dies in the middle. Seed 77: it never ends by itself
(unless the sweep's folder holds ``let-end``). Seed 88: it ignores ``stop`` as well.
Seed 55: its pack ends without a word about it.
Seed 67: the process dies in the middle, the first time. Seed 33: it does nothing more, the first time.
Seed 99: its pack breaks unless it is alone in it.
Seed 31: its pack, when it is told to try, finds that training together gains nothing, and hands the others back.
Seed 32: its pack has no room for any other. Seed 44: it finishes, and a later fault of the pack claims that it failed.
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
            if command["cmd"] == "join" and command["pack"] == self.under_way:
                self.joining += command["jobs"]
            elif command["cmd"] in ("pack", "join"):
                self.packs.append(command)
            if command["cmd"] == "stop_job":
                self.stopped.add(command["job"])
            self.stopping = self.stopping or command["cmd"] == "stop"
            self.leaving = self.leaving or command["cmd"] in ("exit", "stop")

    def run(self) -> None:
        while not (self.leaving and not self.packs):
            self.listen(0.02)
            if self.packs:
                self.train(self.packs.pop(0))
            if self.stopping:
                return

    def train(self, command: dict) -> None:
        spool = Path(command["spool"])

        def say(kind: str, job: int | None, **values: object) -> None:
            with spool.open("a") as file:
                file.write(json.dumps({"t": time.time(), "kind": kind, "job": job, **values}) + "\n")

        jobs: dict[int, dict] = {}
        configs: dict[int, JobConfig] = {}
        done: dict[int, int] = {}
        least: dict[int, int] = {}

        def let_in(entries: list[dict]) -> None:
            for entry in entries:
                number = entry["job"]
                jobs[number], done[number] = entry, begin(Path(entry["dir"]), resume=entry["resume"])
                least[number] = done[number] + 5
                configs[number] = parse(OmegaConf.load(Path(entry["dir"]) / ".hydra" / "config.yaml"))
                record(self.sweep_dir, Path(entry["dir"]), configs[number])
                say("state", number, state="RUNNING", error=None, summary=None)

        say("worker", None, state="pack_started", pack=command["pack"], jobs=[e["job"] for e in command["jobs"]])
        say("log", None, level="info", message="loading the base")
        self.under_way = command["pack"]
        let_in(command["jobs"])
        alive = set(jobs)
        step = 0
        while alive and not self.stopping:
            step += 1
            for number in sorted(alive):
                done[number] += 1
                step_of_it, total = done[number], configs[number].trainer.max_steps or 5
                total = total if total < 50 else 5
                config, folder = configs[number], Path(jobs[number]["dir"])
                forever = config.seed in (77, 88) and not (self.sweep_dir / "let-end").exists()
                values = {"train/loss": 1 / step_of_it}
                say("metrics", number, step=step_of_it, samples=step_of_it, values=values)
                say("progress", number, step=step_of_it, total=total, samples=step, loss=1 / step, samples_per_s=9.5)
                (folder / "checkpoints").mkdir(exist_ok=True)
                (folder / "checkpoints" / f"step-{step_of_it:08}.safetensors").touch()
                if config.seed == 33 and step == 3 and first_time(folder):
                    time.sleep(3600)
                if config.seed == 99 and step == 3 and len(jobs) > 1:
                    say("worker", None, state="pack_broken", pack=command["pack"], error="ValueError: no")
                    say("worker", None, state="pack_ended", pack=command["pack"], jobs=sorted(jobs))
                    return
                if (config.seed == 66 and step == 3) or (config.seed == 67 and step == 3 and first_time(folder)):
                    print("RuntimeError: the fake worker fell over", flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
                if config.seed == 31 and step == 2 and command.get("least_gain") and len(alive) > 1:
                    others = sorted(alive - {number})
                    seconds = {str(len(alive)): 1.0, "1": 0.9}
                    told = {"members": len(alive), "rows": len(alive), "chosen": 1, "ratio": 1.0, "seconds": seconds}
                    say("worker", None, state="gain", **told)
                    say("worker", None, state="handed_back", jobs=others)
                    alive = {number}
                    break
                if number in self.stopped:
                    say("state", number, state="KILLED", error="stopped on request", summary=None)
                    alive.discard(number)
                elif config.seed == 13 and step == 2:
                    say("state", number, state="FAILED", error="the loss is not finite at step 2", summary=None)
                    alive.discard(number)
                elif config.seed == 55 and step == 2:
                    alive.discard(number)
                elif step_of_it >= max(total, least[number]) and not forever:
                    alive.discard(number)
                    self.finish(number, jobs[number], config, say)
            self.listen(0.01)
            entries, self.joining = self.joining, []
            if entries and any(configs[n].seed == 32 for n in alive):
                say("worker", None, state="refused", jobs=[e["job"] for e in entries], reason="memory is short")
            elif entries and alive:
                let_in(entries)
                alive |= {entry["job"] for entry in entries}
            elif entries:
                self.packs.append({**command, "jobs": entries})
            self.hang(any(configs[n].seed == 88 for n in alive))
        for number in sorted(alive):
            say("state", number, state="KILLED", error=None, summary=None)
        self.under_way = None
        if self.joining:  # too late: they are the next pack
            self.packs.insert(0, {**command, "jobs": self.joining})
            self.joining = []
        say("worker", None, state="pack_ended", pack=command["pack"], jobs=sorted(jobs))

    def hang(self, deaf: bool) -> None:
        while self.stopping and deaf:
            time.sleep(0.1)

    def finish(self, number: int, entry: dict, config: JobConfig, say) -> None:  # noqa: ANN001 - a closure of train
        rank = config.lora.rank
        file = Path(entry["dir"]) / "adapter" / f"{entry['name']}.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"\0" * 1024 * rank)
        summary = {"val_loss": 0.2 + rank / 100, "val_loss_rel": 0.8 + rank / 100, "steps": 5, "samples": 5}
        summary |= {"seconds": 1.5, "bytes": 1024 * rank, "file": str(file), "resumed": entry["resume"]}
        say("state", number, state="FINISHED", error=None, summary=summary)
        if config.seed == 44:
            say("state", number, state="FAILED", error="the pack fell over later", summary=None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sweep-dir", type=Path, required=True)
    worker = Worker(parser.parse_args().sweep_dir)
    signal.signal(signal.SIGTERM, lambda *_: setattr(worker, "stopping", True))
    worker.run()
