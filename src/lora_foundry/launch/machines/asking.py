"""What torch sees where the driver's management library shows nothing: asked in a process that ends at once.

That is so on ROCm, on a Jetson, and in a container that was given no ``utility``. Importing torch takes seconds, so it
is asked only where the machine has the files of a driver, and not again within a quarter of a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from lora_foundry.launch.machines.environment import BY_BUS, own_code
from lora_foundry.launch.machines.torch_build import TorchBuild
from lora_foundry.wire.cards import ANSWERS, TorchSays

ASK = (sys.executable, "-P", "-m", "lora_foundry.worker.cards")
_PATIENCE_S = 120.0
_KEPT_S = 15.0
_OF_CUDA = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "nvmap")  # the second and later ones on a Jetson
_OF_ROCM = ("kfd",)
_NO_ANSWER = "torch was asked what it sees and did not answer"

_answers: dict[tuple[str | None, str | None], tuple[float, TorchSays]] = {}


def driver_files(build: TorchBuild, devices: Path = Path("/dev")) -> list[Path]:
    """Files of a driver of the kind that ``build`` computes on; none of a torch for the CPU."""
    patterns = (*(_OF_CUDA if build.cuda else ()), *(_OF_ROCM if build.hip else ()))
    return sorted(file for pattern in patterns for file in devices.glob(pattern))


def torch_says() -> TorchSays:
    """What torch sees in this process's environment, at most a quarter of a minute ago."""
    key = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("HIP_VISIBLE_DEVICES")
    known = _answers.get(key)
    if known is None or time.monotonic() - known[0] > _KEPT_S:
        known = _answers[key] = time.monotonic(), ask()
    return known[1]


def ask() -> TorchSays:
    """Ask now; one that does not answer is told as torch's own problem."""
    environment = {**os.environ, **own_code(os.environ), **BY_BUS}
    try:
        done = subprocess.run(  # noqa: S603  # this project's own
            ASK, capture_output=True, env=environment, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _silent(f"{_NO_ANSWER}: {error}")
    lines = done.stdout.splitlines()
    said = ANSWERS.read(lines[-1]) if lines else None
    if said is None:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        return _silent(f"{_NO_ANSWER} (status {done.returncode}): {words[-1] if words else 'it said nothing'}")
    return said


def _silent(problem: str) -> TorchSays:
    return TorchSays(version="", cuda=None, hip=None, cards=(), problem=problem)
