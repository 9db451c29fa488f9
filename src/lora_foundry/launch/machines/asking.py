"""What torch sees, and what the driver shows: asked in processes that end at once.

The launcher asks torch where the driver's management library shows nothing: on ROCm, on a Jetson, in a container that
was given no ``utility``. Importing torch takes seconds, so it is asked only where the machine has the files of a
driver, and not again within a quarter of a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lora_foundry.launch.machines.devices import DRIVERS, Driver
from lora_foundry.launch.machines.environment import BY_BUS, own_code
from lora_foundry.launch.machines.torch_build import TorchBuild
from lora_foundry.wire.cards import ANSWERS, TorchSays

ASK = (sys.executable, "-P", "-m", "lora_foundry.worker.cards")
ASK_DRIVER = (sys.executable, "-P", "-m", "lora_foundry.launch.machines.devices")
_PATIENCE_S, _DRIVERS_PATIENCE_S = 120.0, 30.0
_LAST_S = 1.0  # for one that was killed to be gone
_KEPT_S = 15.0
_OF_CUDA = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "nvmap")  # the second and later ones on a Jetson
_OF_ROCM = ("kfd",)

_answers: dict[tuple[str | None, str | None], tuple[float, TorchSays]] = {}


class _SilentError(Exception):
    """Whoever was asked did not answer; the message says how."""


class _Asked:
    """A process that was started to ask something, and says it in a line.

    One that hangs in a driver cannot be ended, not even by SIGKILL: it is left behind, and nobody waits for it.
    """

    def __init__(self, command: Sequence[str], visible: str | None = None) -> None:
        hidden = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        environment = {**os.environ, **own_code(os.environ), **BY_BUS, **hidden}
        self._failed: OSError | None = None
        self._began = time.monotonic()
        try:
            self._process = subprocess.Popen(  # noqa: S603  # this project's own
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self._failed = error

    def line(self, patience_s: float) -> bytes:
        """The last line that it says, within ``patience_s`` of its start.

        Raises:
            _SilentError: When there is none.
        """
        if self._failed is not None:
            raise _SilentError(f": {self._failed}")
        left = max(0.0, self._began + patience_s - time.monotonic())
        try:
            told, complaint = self._process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            self._leave_behind()
            raise _SilentError(f" within {patience_s:g} s") from None
        if lines := told.splitlines():
            return lines[-1]
        words = complaint.decode(errors="replace").strip().splitlines()
        raise _SilentError(f" (status {self._process.returncode}): {words[-1] if words else 'it said nothing'}")

    def _leave_behind(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(_LAST_S)
        except subprocess.TimeoutExpired:
            self._process.returncode = -1  # nor does whoever collects this object wait for it


class AskedTorch:
    """Torch, asked what it sees.

    Args:
        patience_s: Seconds in which it has to answer: it is imported first.
        visible: The one card that it is shown, by its UUID; null shows what this process is shown.
    """

    def __init__(self, patience_s: float = _PATIENCE_S, visible: str | None = None) -> None:
        self._patience_s = patience_s
        self._asked = _Asked(ASK, visible)

    def says(self) -> TorchSays:
        """Its answer; one that does not come is told as torch's own problem."""
        try:
            line = self._asked.line(self._patience_s)
            said = ANSWERS.read(line)
        except _SilentError as error:
            return _silent(f"torch was asked what it sees and did not answer{error}")
        return said or _silent(f"torch was asked what it sees and answered {line.decode(errors='replace')!r}")


class AskedDriver:
    """The driver's management library, asked in a process of its own, which may hang as long as it likes.

    Args:
        patience_s: Seconds in which it has to answer.
    """

    def __init__(self, patience_s: float = _DRIVERS_PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._asked = _Asked(ASK_DRIVER)

    def says(self) -> Driver:
        """Its answer; one that does not come is told as the driver's own problem."""
        try:
            line = self._asked.line(self._patience_s)
            said = DRIVERS.read(line)
        except _SilentError as error:
            return Driver(problem=f"the driver did not answer{error}")
        return said or Driver(problem=f"the driver answered {line.decode(errors='replace')!r}")


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
    return AskedTorch().says()


def _silent(problem: str) -> TorchSays:
    return TorchSays(version="", cuda=None, hip=None, cards=(), problem=problem)
