"""Starts :mod:`tests.launch.fake_worker` from any folder: a worker has no tests on its path."""

import runpy
import sys
from pathlib import Path

COMMAND = (sys.executable, str(Path(__file__)))

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    runpy.run_module("tests.launch.fake_worker", run_name="__main__")
