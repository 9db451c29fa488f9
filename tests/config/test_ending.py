"""Ctrl-C once more while a command leaves: what was asked has been done, and its exit code says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAD = """\
import os, signal, sys, threading, time
from lora_foundry.config.ending import run

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
"""
_LATE = {
    "when the command has said its last word": "def main():\n    interrupt()\n    time.sleep(1)\n",
    "while threads end": (
        "def main():\n"
        "    threading.Thread(target=lambda: (time.sleep(0.2), interrupt(), time.sleep(0.2))).start()\n"
        "    return 130\n"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("when", _LATE)
def test_an_interrupt_that_comes_late_leaves_the_exit_code_and_says_nothing(when: str) -> None:
    code = f"{_HEAD}\n{_LATE[when]}\nrun(main)\n"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "")
