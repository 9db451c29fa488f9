"""Starting: ``--help`` and ``--cfg job`` answer in under a second and import no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from bench import PROJECT_ROOT
from bench.measure import Claim, Result, Table, arguments, interleave, median

LIMIT_S = 1.0
HEAVY = ("torch", "lightning", "diffusers", "transformers", "peft", "mlflow")
COMMANDS = {
    "--help": ["-m", "src.train", "--help"],
    "--cfg job": ["-m", "src.train", "--cfg", "job"],
}


def runner(command: list[str]) -> Callable[[], object]:
    """A call that runs ``python <command>`` to its end."""
    return lambda: subprocess.run([sys.executable, *command], cwd=PROJECT_ROOT, capture_output=True, check=True)


def heavy_imports(command: list[str]) -> list[str]:
    """Which of :data:`HEAVY` the command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    return [name for name in HEAVY if name in imported]


def main() -> None:
    """Measure, print, save."""
    options = arguments(__doc__ or "").parse_args()
    rounds = options.rounds or (3 if options.quick else 9)
    cases = {"a bare interpreter": runner(["-c", "pass"])} | {name: runner(c) for name, c in COMMANDS.items()}
    seconds = interleave(cases, rounds=rounds)
    result = Result(
        name="startup",
        title="Starting",
        how=f"Wall time of the whole process, median of {rounds} rounds.",
        quick=options.quick,
    )
    table = Table(title="Seconds", columns=["command", "median", "worst", "heavy imports"])
    for name in cases:
        heavy = heavy_imports(COMMANDS[name]) if name in COMMANDS else []
        cells = [f"{median(seconds[name]):.2f}", f"{max(seconds[name]):.2f}", ", ".join(heavy) or "none"]
        table.rows.append([f"`{name}`", *cells])
        if name in COMMANDS:
            holds = median(seconds[name]) < LIMIT_S and not heavy
            result.claims.append(
                Claim(
                    what=f"`python -m src.train {name}`",
                    measured=f"{median(seconds[name]):.2f} s, heavy imports: {', '.join(heavy) or 'none'}",
                    limit=f"under {LIMIT_S:g} s, no torch",
                    holds=holds,
                )
            )
    result.tables.append(table)
    result.save()


if __name__ == "__main__":
    main()
