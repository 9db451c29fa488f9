"""Write docs/reliability.md from bench/results/soak.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench import PROJECT_ROOT
from bench.faults.catalogue import FAULTS
from bench.render import as_table
from lora_foundry.config.files import write_atomic

RESULT = PROJECT_ROOT / "bench" / "results" / "soak.json"
PAGE = PROJECT_ROOT / "docs" / "reliability.md"
HEAD = """# Reliability

<!-- Written by `python -m bench.reliability` from bench/results/soak.json by `make soak`: do not edit. -->

Every fault below is done to real sweeps: a real launcher, real workers, the embedded base, real drawings, a real MLflow
database, 64-bit so that rounding cannot hide a wrong step. `make test` tries each once; `make soak ARGS=--counts` tries
them as often as the table says, `make soak ARGS="--minutes 60 --seed 7"` at random for an hour.

After each try the sweep is compared with the same sweep that nobody disturbed:

- **Every finished adapter is the same**: both exported files and the weights of the last checkpoint. Bitwise where each
  pack was the same jobs from its first step to its last, else within 1e-9 (relative, in norm), which is what the
  [equality contract](architecture.md) promises of jobs whose pack was split, shrank or grew.
- **No metric is missing and none is doubled**: the (key, step) pairs of each run are counted in MLflow's database, and
  losses must be the same to 1e-9.
- **No run stays RUNNING**, each has the state of its job, its parameters and its artifacts.
- **Every job has its files**, none half written; no process is left, and the sweep's folder is free.
"""


def counts(results: dict[str, dict[str, Any]]) -> str:
    """The table of what was counted."""
    rows = []
    for name, fault in FAULTS.items():
        one = results.get(name)
        found = [str(one["tries"]), _lost(one), _compared(one)] if one else ["0", "not measured yet", ""]
        rows.append([fault.title, *found, fault.seen])
    heads = ["fault", "tries", "lost", "compared with the undisturbed sweep", "what a user sees"]
    return as_table(heads, rows)


def losses(results: dict[str, dict[str, Any]]) -> str:
    """What was lost, word for word; empty where nothing was."""
    lines = [f"- {name}: {what.splitlines()[0]}" for name, one in results.items() for what in one["lost"]]
    return "\n".join(["What was lost:\n", *lines, ""]) if lines else ""


def _lost(one: dict[str, Any]) -> str:
    return f"**{len(one['lost'])} tries**" if one["lost"] else "nothing"


def _compared(one: dict[str, Any]) -> str:
    others = one["jobs"] - one["bitwise"]
    parts = [f"{one['bitwise']} adapters bitwise"] if one["bitwise"] else []
    parts += [f"{others} adapters, at most {one['apart']:.0e} apart"] if others else []
    return ", ".join([*parts, f"{one['points']} metric points"])


def runs(results: Sequence[dict[str, Any]]) -> str:
    """Commands and dates."""
    seen = dict.fromkeys(f"`{one['command']}`, {one['date']}; {one['machine']}" for one in results)
    versions = results[-1]["versions"]
    return "\n".join([*(f"- {line}" for line in seen), f"- {versions}"])


def at_random(results: dict[str, dict[str, Any]]) -> str:
    """One paragraph for the soak."""
    tries = sum(one["tries"] for one in results.values())
    minutes = sum(one["seconds"] for one in results.values()) / 60
    jobs, points = (sum(one[key] for one in results.values()) for key in ("jobs", "points"))
    lost = sum(len(one["lost"]) for one in results.values())
    said = f"{lost} lost something" if lost else "none lost anything"
    return (
        f"At random for {minutes:.0f} minutes: {tries} faults of {len(results)} kinds, of which {said}; "
        f"{jobs} adapters and {points} metric points compared."
    )


def page(known: dict[str, dict[str, Any]]) -> str:
    """The whole page."""
    parts = [HEAD]
    if known.get("counts"):
        parts += [counts(known["counts"]) + "\n"]
        parts += [lost] if (lost := losses(known["counts"])) else []
    if known.get("random"):
        parts += [at_random(known["random"]) + "\n"]
    every = [one for kind in ("counts", "random") for one in known.get(kind, {}).values()]
    parts += [f"Measured by:\n\n{runs(every)}\n"] if every else ["Nothing is measured yet.\n"]
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    write_atomic(PAGE, page(json.loads(RESULT.read_text()) if RESULT.exists() else {}))
    print(f"written to {PAGE.relative_to(PROJECT_ROOT)}")


if __name__ == "__main__":
    main()
