"""Stories of processes that are killed, frozen and signalled."""

from __future__ import annotations

import os
import signal
import sys
import time
from random import Random

from bench.faults import injections as do
from bench.faults.checks import Verdict, check
from bench.faults.lab import Lab
from bench.faults.sweeps import PAIR, RealSweep, Recipe, ensure, is_alive, until
from lora_foundry.wire.journal import BeganLine, EndedLine, ResumedLine, WorkerLine

_MANY = "hydra.launcher.max_restarts=50"


def worker_killed(lab: Lab, draw: Random, recipe: Recipe = PAIR, times: int = 2) -> Verdict:
    """Its worker is killed ``times`` times, and the sweep ends by itself."""
    sweep = lab.sweep(recipe, "worker-killed", _MANY).start()
    blows = 0
    within_s = 0.6 if times <= 2 else 2.5  # two blows have to fall, and a quick machine trains a pair in two seconds
    while blows < times and do.kill_worker(sweep, draw, within_s=within_s) is not None:
        blows += 1
    sweep.ends(0)
    ensure(blows == times or times > 2, f"{blows} of {times} workers were killed before the sweep ended")
    deaths = [line for line in sweep.journal(WorkerLine) if line.state == "ended"]
    ensure(len(deaths) == blows, f"{blows} workers were killed, the journal has {len(deaths)}")
    verdict = check(sweep, lab.reference(recipe), lab.database)
    verdict.tries = blows
    return verdict


def launcher_killed(lab: Lab, draw: Random, recipe: Recipe = PAIR, times: int = 1) -> Verdict:
    """The launcher is killed, then that of the resume, and so on; each resume is started at once."""
    sweep = lab.sweep(recipe, "launcher-killed").start()
    blows = 0
    for _ in range(times):
        do.wait_for_training(sweep, begun=len(sweep.journal(BeganLine)))
        do.pause(sweep, draw.uniform(0.0, 2.0))
        if sweep.ended():
            break
        orphans = sweep.workers()
        do.kill_launcher(sweep)
        blows += 1
        resume_once_free(sweep)
        _gone_before_the_resume(orphans)
    sweep.ends(0)
    ensure(blows, "the sweep ended before its launcher was killed")
    verdict = check(sweep, lab.reference(recipe), lab.database)
    verdict.tries = blows
    return verdict


def resume_once_free(sweep: RealSweep) -> None:
    """Resume; where it is refused since orphans still work there, again when they have gone."""
    asked = time.time()
    until(lambda: _begins(sweep.resume(), asked), "a resume that begins")


def _begins(sweep: RealSweep, since: float) -> bool:
    until(lambda: sweep.ended() or _resumed(sweep, since), "the resume to begin or to be refused")
    if sweep.ended() and not _resumed(sweep, since):
        if sweep.running().returncode == 0:  # the blow fell on a launcher that had done everything
            ensure("Nothing is left to do" in sweep.said(), f"the resume did nothing:\n{sweep.said()[-2000:]}")
            return True
        ensure("in use by another process" in sweep.said(), f"the resume was refused:\n{sweep.said()[-2000:]}")
        return False
    return True


def _resumed(sweep: RealSweep, since: float) -> bool:
    """Jobs went on, or the workers had ended them all and only the sweep's own end was left to do."""
    lines = [*sweep.journal(ResumedLine), *sweep.journal(EndedLine)]
    return any(line.t >= since for line in lines)


def _gone_before_the_resume(orphans: list[int]) -> None:
    """No orphan works beside a resume."""
    left = [pid for pid in orphans if is_alive(pid)]
    ensure(not left, f"the resume began beside the orphans {left}")


def worker_frozen(lab: Lab, draw: Random, stall_s: int = 5) -> Verdict:
    """The worker stands still; it is ended and its pack goes on."""
    sweep = lab.sweep(PAIR, "worker-frozen", _MANY, f"hydra.launcher.stall_s={stall_s}").start()
    do.wait_for_training(sweep)
    do.pause(sweep, draw.uniform(0.0, 1.0))
    pid = do.freeze_worker(sweep)
    sweep.ends(0)
    stalled = [line.pid for line in sweep.journal(WorkerLine) if line.state == "stalled"]
    ensure(pid in stalled, f"worker {pid} stood still, the journal has {stalled}")
    ensure(f"did nothing for {stall_s} s" in sweep.said(), "the user was not told")
    return check(sweep, lab.reference(PAIR), lab.database)


def interrupted_twice(lab: Lab, draw: Random) -> Verdict:
    """The second Ctrl-C does not wait for checkpoints."""
    sweep = lab.sweep(PAIR, "interrupted-twice").start()
    sweep.reaches(draw.randint(4, 8))
    for _ in range(2):
        os.kill(sweep.running().pid, signal.SIGINT)
        time.sleep(0.3)
    return _goes_on_after_a_stop(lab, sweep)


def terminated(lab: Lab, draw: Random) -> Verdict:
    """SIGTERM."""
    return _signalled(lab, draw, signal.SIGTERM)


def hung_up(lab: Lab, draw: Random) -> Verdict:
    """SIGHUP."""
    return _signalled(lab, draw, signal.SIGHUP)


def _signalled(lab: Lab, draw: Random, number: signal.Signals) -> Verdict:
    sweep = lab.sweep(PAIR, number.name.lower()).start()
    do.wait_for_training(sweep)
    do.pause(sweep, draw.uniform(0.0, 1.5))
    together = sweep.workers() if draw.random() < 0.5 else []  # as at the end of a login or a service
    for pid in (sweep.running().pid, *together):
        os.kill(pid, number)
    return _goes_on_after_a_stop(lab, sweep)


def _goes_on_after_a_stop(lab: Lab, sweep: RealSweep) -> Verdict:
    sweep.ends(130)
    states = {row["state"] for row in sweep.jobs().values()}
    ensure(states == {"KILLED"}, f"interrupted jobs are {states}")
    sweep.resume().ends(0)
    return check(sweep, lab.reference(PAIR), lab.database)


def two_resumes(lab: Lab, draw: Random) -> Verdict:
    """Of two resumes of one sweep exactly one trains."""
    sweep = lab.sweep(PAIR, "two-resumes").start()
    do.wait_for_training(sweep)
    do.pause(sweep, draw.uniform(0.0, 1.0))
    os.kill(sweep.running().pid, signal.SIGTERM)
    sweep.ends(130)
    command = [sys.executable, "-m", "src.resume", str(sweep.folder)]
    both = [sweep.spawn(command), sweep.spawn(command)]
    codes = sorted(one.wait(240) for one in both)
    ensure(codes in ([0, 2], [0, 0]), f"two resumes ended with {codes}\n{sweep.said()[-2000:]}")
    began = len(sweep.journal(BeganLine))
    ensure(began == 2, f"the pack was begun {began} times, by the sweep and by both resumes")
    return check(sweep, lab.reference(PAIR), lab.database)
