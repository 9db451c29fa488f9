"""A worker process that speaks the protocol and trains nothing; see :mod:`tests.launch.fake_training`."""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import sys
import time
from pathlib import Path

from tests.launch.fake_training import DiesNow, FakeTraining, HangsNow, stored_config


class Pipe:
    """The commands on stdin; its end is a stop."""

    def __init__(self, training: FakeTraining) -> None:
        self.training = training
        self.buffer = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ)

    def listen(self, wait_s: float) -> None:
        if not self.selector.select(wait_s):
            return
        data = os.read(sys.stdin.fileno(), 65536)
        if not data:
            self.training.stopping = self.training.leaving = True
            time.sleep(wait_s)
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            self.training.take(json.loads(line))


def work(training: FakeTraining) -> None:
    pipe = Pipe(training)
    while not training.over:
        pipe.listen(0.01)
        try:
            training.turn()
        except DiesNow as words:
            print(*words.args, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        except HangsNow:
            time.sleep(3600)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sweep-dir", type=Path, required=True)
    made = FakeTraining(parser.parse_args().sweep_dir, os.getpid(), time.time, stored_config)
    signal.signal(signal.SIGTERM, lambda *_: setattr(made, "stopping", True))
    work(made)
