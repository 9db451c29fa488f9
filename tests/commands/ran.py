"""What a command line of a test did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.launch.start_fake_worker import COMMAND

FAKE_WORKER = f"hydra.launcher.worker_command=[{','.join(COMMAND)}]"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str
    sweep_dir: Path

    def results(self) -> dict[int, dict[str, Any]]:
        return {row["job"]: row for row in json.loads((self.sweep_dir / "results.json").read_text())}

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.results().values()}

    def commands(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.sweep_dir / "commands.jsonl").read_text().splitlines()]


class Command(Protocol):
    """The ``command`` fixture."""

    def __call__(self, *words: str, sweep_dir: Path | None = ...) -> Ran: ...
