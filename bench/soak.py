"""``make soak``: the faults of bench/faults by the number, or at random for a while; then docs/reliability.md."""

from __future__ import annotations

import argparse
import datetime
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from bench import PROJECT_ROOT, reliability
from bench.faults.catalogue import FAULTS, Fault
from bench.faults.injections import can_mount
from bench.faults.lab import Lab
from bench.faults.sweeps import LostError
from bench.measure import circumstances
from lora_foundry.config.files import write_json

COUNTED, RANDOM = "counts", "random"


def tell(lab: Lab, name: str, seed: str, *, counted: bool) -> dict[str, Any]:
    """One story of the fault: what was tried and what was lost, as plain values."""
    fault: Fault = FAULTS[name]
    story = fault.many if counted and fault.many is not None else fault.story
    begun = time.monotonic()
    found: dict[str, Any] = {"tries": 1, "jobs": 0, "bitwise": 0, "apart": 0.0, "points": 0, "lost": []}
    try:
        verdict = story(lab, random.Random(seed))
    except LostError as error:
        found["lost"] = [f"seed {seed}: {error}"]
    except Exception:  # noqa: BLE001 - a story that broke off is kept with the others, in full
        found["lost"] = [f"seed {seed}: {traceback.format_exc()}"]
    else:
        found |= {key: getattr(verdict, key) for key in ("tries", "jobs", "bitwise", "apart", "points")}
    lab.clean_up()
    return found | {"seconds": time.monotonic() - begun}


def add(total: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """Both together."""
    if not total:
        return one
    summed = {key: total[key] + one[key] for key in one if key != "apart"}
    return summed | {"apart": max(total["apart"], one["apart"])}


def counted(lab: Lab, names: list[str], seed: int, show: Console) -> dict[str, dict[str, Any]]:
    """Each fault as often as the catalogue says."""
    totals: dict[str, dict[str, Any]] = {}
    for name in names:
        told = 0
        while totals.get(name, {}).get("tries", 0) < FAULTS[name].often:
            one = tell(lab, name, f"{seed}-{name}-{told}", counted=True)
            totals[name] = add(totals.get(name, {}), one)
            told += 1
            say(show, name, one)
        keep(COUNTED, {name: totals[name]})
    return totals


def at_random(lab: Lab, names: list[str], seed: int, minutes: float, show: Console) -> dict[str, dict[str, Any]]:
    """Faults in random order until the time is over."""
    totals: dict[str, dict[str, Any]] = {}
    draw, end, told = random.Random(seed), time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        name = draw.choice(names)
        one = tell(lab, name, f"{seed}-{told}", counted=False)
        totals[name] = add(totals.get(name, {}), one)
        told += 1
        say(show, name, one)
        keep(RANDOM, totals)
    return totals


def say(show: Console, name: str, one: dict[str, Any]) -> None:
    """A line as soon as something is known."""
    lost = "[red]LOST[/]" if one["lost"] else "nothing lost"
    show.print(f"{name}: {one['tries']} in {one['seconds']:.0f} s, {lost}")
    for what in one["lost"]:
        show.print(what, markup=False, highlight=False)


def keep(kind: str, totals: dict[str, dict[str, Any]]) -> None:
    """Write what is known so far into bench/results/soak.json; other faults keep the counts that they had."""
    path = reliability.RESULT
    known = json.loads(path.read_text()) if path.exists() else {}
    when = {**circumstances("soak"), "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")}
    known[kind] = (known.get(kind, {}) if kind == COUNTED else {}) | {
        name: {**total, **when} for name, total in totals.items()
    }
    write_json(path, known)


def as_table(totals: dict[str, dict[str, Any]]) -> Table:
    """For the terminal."""
    fault = Column("fault", min_width=max(map(len, totals)))
    table = Table(
        fault, "tries", "lost", "adapters", "bitwise", "apart", "points", "s", box=SIMPLE, padding=(0, 1, 0, 0)
    )
    for name, one in totals.items():
        lost = f"[red]{len(one['lost'])}[/]" if one["lost"] else "0"
        cells = [one["tries"], lost, one["jobs"], one["bitwise"], f"{one['apart']:.0e}", one["points"]]
        table.add_row(name, *map(str, cells), f"{one['seconds']:.0f}")
    return table


def main() -> int:
    """Try, show, write; 1 when anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="at random, for so long (default: 10)")
    parser.add_argument("--counts", action="store_true", help="each fault as often as bench/faults/catalogue.py says")
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS), metavar="FAULT", help="these")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    options = parser.parse_args()
    show = Console()
    if not can_mount():
        options.only = [name for name in options.only if not FAULTS[name].mounts]
        show.print("[yellow]disks are not filled: that takes the right to mount one (root)[/]")
    root = Path(tempfile.mkdtemp(prefix="soak-"))
    lab = Lab(root)
    if options.counts:
        totals = counted(lab, options.only, options.seed, show)
    else:
        totals = at_random(lab, options.only, options.seed, options.minutes, show)
    show.print(as_table(totals))
    reliability.main()
    lost = any(one["lost"] for one in totals.values())
    if lost:
        show.print(f"the sweeps are kept in {root}")
    else:
        shutil.rmtree(root)
    show.print(f"written to {reliability.RESULT.relative_to(PROJECT_ROOT)}")
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())
