"""Stories of MLflow's database and server."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from random import Random

from bench import PROJECT_ROOT
from bench.faults import injections as do
from bench.faults.checks import Verdict, check
from bench.faults.lab import Lab
from bench.faults.server import Server
from bench.faults.sweeps import PAIR, until

_LATER = "python -m src.track"  # logs the rest


def database_locked(lab: Lab, draw: Random, seconds: float = 3.0) -> Verdict:
    """Another process holds the database's lock in the middle of a sweep."""
    reference = lab.reference(PAIR)
    sweep = lab.sweep(PAIR, "database-locked").start()
    sweep.reaches(draw.randint(1, 4))
    with do.locked(lab.database):
        time.sleep(seconds)
    sweep.ends(0)
    return check(sweep, reference, lab.database)


def server_gone(lab: Lab, draw: Random, seconds: float = 4.0) -> Verdict:
    """A real server is killed in the middle of a sweep and comes back after a while."""
    reference = lab.reference(PAIR)
    folder = lab.root / f"server-{draw.randrange(10**9)}"
    folder.mkdir()
    with closing(sqlite3.connect(lab.database)) as store:
        store.execute("pragma wal_checkpoint(truncate)")
    shutil.copy(lab.database, folder / "mlflow.db")
    server = Server(folder, folder / "mlflow.db", popen=lab.popen)
    server.start()
    try:
        sweep = lab.sweep(PAIR, "server-gone", f"tracking.uri={server.uri}", "tracking.experiment=far").start()
        sweep.reaches(draw.randint(2, 6))
        server.stop()
        time.sleep(seconds)
        # A sweep that is over before the client gave up its own tries is told at its end, with how to log the rest.
        until(lambda: any(words in sweep.said() for words in ("MLflow is away", _LATER)), "the user to be told")
        server.start()
        sweep.ends(0)
        if _LATER in sweep.said():  # it was away for longer than the launcher waits
            track = [sys.executable, "-m", "src.track", str(sweep.folder)]
            subprocess.run(track, cwd=PROJECT_ROOT, check=True, capture_output=True)
    finally:
        server.stop()
    return check(sweep, reference, lab.database, store=folder / "mlflow.db", elsewhere=folder)
