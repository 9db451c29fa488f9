"""Stories of faults inside a worker."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

from safetensors import safe_open
from safetensors.torch import save_file

from bench.faults import injections as do
from bench.faults.broken import FELL_OVER, command
from bench.faults.checks import Verdict, check, together
from bench.faults.lab import Lab
from bench.faults.sweeps import PAIR, RealSweep, Recipe, ensure
from lora_foundry.wire.journal import WorkerLine

_ONE_AND = Recipe(seeds=(1,), pack_size=4)


def member_raises(lab: Lab, draw: Random) -> Verdict:
    """The third of three jobs raises at its seventh step, together and alone."""
    del draw
    trio = Recipe(seeds=(1, 2, 901), pack_size=3)
    sweep = lab.sweep(trio, "member-raises", command("member")).start()
    sweep.ends(1)
    return _one_failed(lab, sweep, 2, FELL_OVER)


def member_refused(lab: Lab, draw: Random) -> Verdict:
    """One of two jobs is given an adapter to start from whose training had diverged: no header tells that."""
    del draw
    reference = lab.reference(PAIR)
    diverged = _with_nan(
        next((reference.folder / "0" / "adapter").glob("*[0-9].safetensors")), lab.root / "diverged.safetensors"
    )
    sweep = lab.sweep(_ONE_AND, "member-refused", f"lora.init_from=null,{diverged}").start()
    sweep.ends(1)
    return _one_failed(lab, sweep, 1, "NaN or infinity in 1 of its tensors")


def member_nan(lab: Lab, draw: Random) -> Verdict:
    """One of two jobs has a learning rate beyond all numbers."""
    del draw
    sweep = lab.sweep(_ONE_AND, "member-nan", "optimizer.lr=3e-3,1e300").start()
    sweep.ends(1)
    return _one_failed(lab, sweep, 1, "allowed are finite numbers; lower optimizer.lr")


def _one_failed(lab: Lab, sweep: RealSweep, number: int, why: str) -> Verdict:
    error = str(sweep.jobs()[number]["error"])
    ensure(why in error, f"job {number} failed with {error!r}")
    ensure(why in sweep.said(), "the user was not told why")
    return check(sweep, lab.reference(PAIR), lab.database, failed=frozenset({number}))


def _with_nan(path: Path, target: Path) -> Path:
    """The adapter in ``path`` with one number of one matrix that is none."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors[next(key for key in tensors if "lora_up" in key)][0, 0] = float("nan")
    save_file(tensors, target, metadata)
    return target


def cuda_sticks(lab: Lab, draw: Random) -> Verdict:
    """After its fifth step every step of the first worker raises what a broken CUDA context raises."""
    del draw
    sweep = lab.sweep(PAIR, "cuda-sticks", command("cuda")).start()
    sweep.ends(0)
    workers = [line.pid for line in sweep.journal(WorkerLine) if line.state == "started"]
    ensure(len(workers) == 2, f"workers that were started: {workers}")
    ensure(all(row["state"] == "FINISHED" for row in sweep.jobs().values()), "a job failed for its card's sake")
    return check(sweep, lab.reference(PAIR), lab.database)


def killed_in_export(lab: Lab, draw: Random, place: int | None = None) -> Verdict:
    """The worker dies while it writes the first adapter's files."""
    place = draw.randrange(5) if place is None else place
    sweep = lab.sweep(PAIR, f"killed-in-export-{place}", command(f"export-{place}")).start()
    sweep.ends(0)
    ensure((sweep.folder / "did-export").exists(), "no export was killed")
    return check(sweep, lab.reference(PAIR), lab.database)


def killed_in_every_place(lab: Lab, draw: Random) -> Verdict:
    """One sweep a place."""
    return together([killed_in_export(lab, draw, place) for place in range(5)])


def clock_jumps(lab: Lab, draw: Random) -> Verdict:
    """The clocks of launcher and workers jump, and a worker is killed on top, so that a restart is among it."""
    sweep = lab.sweep(PAIR, "clock-jumps", command("clock"), "tracking.flush_s=2")
    sweep.start((sys.executable, "-m", "bench.faults.broken", "clock", "src.train"))
    sweep.reaches(draw.randint(4, 8))
    ensure(do.kill_worker(sweep, draw, within_s=0.3) is not None, "the sweep ended before its worker was killed")
    sweep.ends(0)
    return check(sweep, lab.reference(PAIR), lab.database)
