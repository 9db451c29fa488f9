"""Timing, and how results are kept: one JSON file a bench, rendered into docs/benchmarks.md."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import PROJECT_ROOT
from lora_foundry.config.files import write_json

RESULTS = PROJECT_ROOT / "bench" / "results"


@dataclass(kw_only=True, slots=True)
class Table:
    """A table of a result.

    Attributes:
        title: Stands above it.
        columns: Heads.
        rows: Cells, as text.
    """

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Claim:
    """A figure with its limit.

    Attributes:
        what: What was measured.
        measured: The figure, with its unit.
        limit: What it must reach.
        holds: Whether it does.
    """

    what: str
    measured: str
    limit: str
    holds: bool


@dataclass(kw_only=True, slots=True)
class Result:
    """What one bench found.

    Attributes:
        name: The module in ``bench``.
        title: Heading on the page.
        how: What was compared with what, in sentences.
        quick: Whether this was the short look that ``--quick`` takes.
        claims: Figures with limits.
        tables: The details.
        device: What was measured on, besides the processor.
    """

    name: str
    title: str
    how: str
    quick: bool
    claims: list[Claim] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    device: str = "no GPU used"

    def save(self) -> Path:
        """Write ``bench/results/<name>.json`` with command, date and machine; print the claims.

        A quick look never takes the place of a full measurement.
        """
        path = self.keep()
        for claim in self.claims:
            print(f"{'holds ' if claim.holds else 'MISSES'}  {claim.what}: {claim.measured} (limit {claim.limit})")
        for table in self.tables:
            print(f"\n{table.title}\n" + "\n".join(" | ".join(row) for row in [table.columns, *table.rows]))
        print(f"\nwritten to {path.relative_to(PROJECT_ROOT)}")
        return path

    def keep(self) -> Path:
        """Write the file alone, as far as the measurement has come."""
        path = RESULTS / f"{self.name}{'-quick' if self.quick else ''}.json"
        write_json(path, {**asdict(self), **circumstances(self.name, self.device)})
        return path


def circumstances(name: str, device: str = "no GPU used") -> dict[str, object]:
    """Command, date, machine and load of a measurement."""
    packages = ("torch", "diffusers", "peft", "lightning", "mlflow")
    return {
        "command": f"python -m bench.{name} {' '.join(_shown(argument) for argument in sys.argv[1:])}".strip(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores, {device}",
        "load": f"{os.getloadavg()[2]:.1f}",
        "versions": f"Python {platform.python_version()}, " + ", ".join(f"{p} {_version(p)}" for p in packages),
    }


def _version(package: str) -> str:
    """A card may be measured where not all packages are."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _shown(argument: str) -> str:
    """A path of this machine means nothing to a reader; its last part does."""
    return f".../{Path(argument).name}" if argument.startswith("/") else argument


def arguments(description: str) -> argparse.ArgumentParser:
    """The options every bench has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a short look: fewer cases and rounds")
    parser.add_argument("--rounds", type=int, default=None, help="rounds over all cases")
    return parser


def interleave(cases: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each case, case after case in every round, so that a busy moment strikes all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(warm_up + rounds):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            taken = time.perf_counter() - start
            if number >= warm_up:
                seconds[name].append(taken)
    return seconds


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


def ratio(over: list[float], under: list[float]) -> float:
    """The median of the ratios round by round: both sides of each ratio were measured in the same moment."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def load_results(folder: Path = RESULTS) -> dict[str, dict[str, object]]:
    """All full results by name."""
    paths = sorted(path for path in folder.glob("*.json") if not path.stem.endswith("-quick"))
    return {path.stem: json.loads(path.read_text()) for path in paths}
