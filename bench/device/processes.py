"""K solo trainings beside each other on one card: what a person does who starts a process a job."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from bench import PROJECT_ROOT
from bench.device.timing import Measured

_LEAVE_S = 20.0


class Processes:
    """Processes that are started once, when they are first needed: importing takes longer than measuring.

    Args:
        count: How many.
        device: Where each trains: ``cuda`` or ``cpu``.
    """

    def __init__(self, count: int, device: str) -> None:
        self._count = count
        self._device = device
        self._children: list[_Line] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for child in self._children:
            child.leave()

    def measure(self, asked: list[str], count: int, batch: int, seconds: float) -> Measured | None:
        """Train ``count`` jobs at the same time; None where they do not fit on the card together.

        Raises:
            RuntimeError: When a process ends without an answer.
        """
        if not self._children:
            self._children = [_Line(self._device) for _ in range(self._count)]
            self._ask(self._children, {"drop": True})  # answered once all is imported
        used = self._children[:count]
        built = self._ask(used, {"build": asked})
        told = [] if _is_full(built) else self._ask(used, {"train": seconds})
        self._ask(used, {"drop": True})
        if not told or _is_full(told):
            return None
        return Measured(
            step_s=sum(one["seconds"] / one["steps"] for one in told) / count,
            images_per_s=sum(batch * one["steps"] / one["seconds"] for one in told),
            tensors=_sum(told, "tensors"),
            held=_sum(told, "held"),
        )

    @staticmethod
    def _ask(children: list[_Line], task: dict[str, Any]) -> list[dict[str, Any]]:
        for child in children:
            child.tell(task)
        return [child.answer() for child in children]


class _Line:
    """A process that is told and answers JSON lines."""

    def __init__(self, device: str) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "bench.device.child", device]
        self._process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        if self._process.stdin is None or self._process.stdout is None:
            msg = "the process was started without pipes"
            raise TypeError(msg)
        self._in, self._out = self._process.stdin, self._process.stdout

    def tell(self, task: dict[str, Any]) -> None:
        self._in.write(json.dumps(task) + "\n")
        self._in.flush()

    def answer(self) -> dict[str, Any]:
        line = self._out.readline()
        if not line:
            msg = f"a process of the bench ended with status {self._process.wait()} and no answer; its error is above"
            raise RuntimeError(msg)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def leave(self) -> None:
        try:
            self._process.communicate(timeout=_LEAVE_S)  # its standard input ends, and so does it
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def _is_full(answers: list[dict[str, Any]]) -> bool:
    return any("full" in one for one in answers)


def _sum(told: list[dict[str, Any]], key: str) -> int | None:
    return sum(one[key] for one in told) if all(one[key] is not None for one in told) else None
