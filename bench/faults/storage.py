"""Stories of disks and files."""

from __future__ import annotations

import shutil
from random import Random

from bench import PROJECT_ROOT
from bench.faults import injections as do
from bench.faults.checks import Verdict, check
from bench.faults.lab import Lab
from bench.faults.sweeps import PAIR, RealSweep, ensure, until
from lora_foundry.wire.events import LogEvent
from lora_foundry.wire.journal import BeganLine

_TWO_KIB = 5000  # room for two checkpoints of 1.8 MB, and not for a third
_SWEEP_KIB = 14_000  # room for a sweep of two


def disk_full(lab: Lab, draw: Random) -> Verdict:
    """Job 0's checkpoints lie on a disk that is full from the third on; its worker is killed after that."""
    sweep = lab.sweep(PAIR, "disk-full")
    with do.small_disk(sweep.folder / "0" / "checkpoints", _TWO_KIB):
        sweep.start()
        sweep.reaches(draw.randint(10, 13))
        ensure(do.kill_worker(sweep, draw, within_s=0.3) is not None, "the sweep ended before its worker was killed")
        sweep.ends(0)
        ensure("no checkpoint was written" in sweep.said(), "the user was not told")
        ensure("from step-00000006" in str(list(sweep.events())), "the last good checkpoint was not used")
    return check(sweep, lab.reference(PAIR), lab.database)


def disk_full_for_a_while(lab: Lab, draw: Random) -> Verdict:
    """The whole sweep's disk is full in the middle: nobody can write a line. It has room again before the end."""
    sweep = lab.sweep(PAIR, "disk-full-for-a-while")
    with do.small_disk(sweep.folder, _SWEEP_KIB):
        sweep.start()
        sweep.reaches(draw.randint(4, 6))
        with do.filled(sweep.folder):
            do.pause(sweep, 1.2)
        sweep.ends(0)
        ensure(len(sweep.journal(BeganLine)) == 1, "a worker was lost to a full disk")
        return check(sweep, lab.reference(PAIR), lab.database)


def checkpoint_spoilt(lab: Lab, draw: Random) -> Verdict:
    """The newest checkpoints are damaged while nobody works."""
    sweep = _left_half_way(lab, draw, "checkpoint-spoilt")
    spoilt = do.spoil_newest_checkpoints(sweep, draw)
    ensure(len(spoilt) == len(PAIR.seeds), f"only {spoilt} could be spoilt")
    sweep.resume().ends(0)
    passed = [e.message for e in sweep.events() if isinstance(e, LogEvent) and "passed over: " in e.message]
    ensure(len(passed) == len(spoilt), f"{spoilt} were spoilt, the user was told {passed}")
    return check(sweep, lab.reference(PAIR), lab.database)


def cache_spoilt(lab: Lab, draw: Random) -> Verdict:
    """Entries of the cache are damaged before a sweep that uses them."""
    reference = lab.reference(PAIR)
    cache = lab.root / f"spoilt-cache-{draw.randrange(10**9)}"
    shutil.copytree(lab.cache, cache)
    do.spoil_cache(cache, draw)
    sweep = lab.sweep(PAIR, "cache-spoilt", cache=cache).start()
    sweep.ends(0)
    log = (sweep.folder / "0" / "worker.log").read_text()
    ensure(log.count("damaged cache entry deleted") == 6, "the damage was not noticed")
    return check(sweep, reference, lab.database)


def data_changed(lab: Lab, draw: Random) -> Verdict:
    """A caption is changed before a resume, and put back for another."""
    data = lab.root / f"data-{draw.randrange(10**9)}"
    shutil.copytree(PROJECT_ROOT / "assets" / "emoji-duotone" / "train", data)
    sweep = _left_half_way(lab, draw, "data-changed", f"data.path={data}")
    kept = do.change_data(data)
    sweep.resume().ends(2)
    told = sweep.said().rsplit("the data changed since it began", 1)[-1]
    ensure("caption" in told and str(data) in told, f"it does not say what changed:\n{sweep.said()[-2000:]}")
    kept.replace(next(data.glob("metadata.*")))
    sweep.resume().ends(0)
    return check(sweep, lab.reference(PAIR), lab.database)


def _left_half_way(lab: Lab, draw: Random, name: str, *words: str) -> RealSweep:
    """A sweep whose launcher was killed after two checkpoints, and whose workers have ended."""
    sweep = lab.sweep(PAIR, name, *words).start()
    sweep.reaches(draw.randint(7, 10))
    do.kill_launcher(sweep)
    until(lambda: not sweep.is_held(), "the orphans to end")
    return sweep
