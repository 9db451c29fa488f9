"""Write docs/benchmarks.md from the JSON in bench/results."""

from __future__ import annotations

from typing import Any

from bench import PROJECT_ROOT
from bench.measure import load_results
from lora_foundry.config.files import write_atomic

PAGE = PROJECT_ROOT / "docs" / "benchmarks.md"
ORDER = (
    "startup",
    "step",
    "host",
    "sweep",
    "one_job",
    "real_size",
    "precision",
    "overhead",
    "prediction",
    "memory",
    "farm",
    "search",
    "find_lr",
    "intervals",
    "removal",
    "device",
)
NOT_MEASURED = """## On a card

Not measured yet: nothing here ever ran on CUDA. `python -m bench.device` measures a card in under nine minutes,
offline, from the tree, with torch 2.11 or newer: a pack on the card against the CPU in 64 bit and against solo; one
job, K processes and a pack of K on Stable Diffusion 1.5's size, with memory against its prediction; the most expensive
kernels and the share of a step in which the card waits; the memory ladder under limits; two workers through the
launcher."""
HEAD = """# Benchmarks

<!-- Written by `python -m bench.render` from bench/results/*.json: measure again with `make bench`, do not edit. -->

`make bench` measures all of this again and writes this page; `python -m bench.<name>` measures one part, `--quick`
takes a short look that is kept apart. The sides of a comparison take turns on the same machine, so that a busy moment
strikes both, and a ratio is the median of the ratios round by round.

The comparison with diffusers' example needs a copy of its `train_text_to_image_lora.py`, which is not part of this
project, and `datasets`: `make bench ARGS="--example ./train_text_to_image_lora.py"`. Where torchvision is not
installed, the example gets a small stand-in for the seven image transforms it uses (`bench/stand_in`). In the same way
`--kohya ./sd-scripts --kohya-packages ./site` takes a checked-out copy of kohya's scripts and a folder with the
versions that its requirements.txt pins.
"""


def escaped(cell: str) -> str:
    """A cell that does not end its column."""
    return cell.replace("|", "\\|")


def as_table(columns: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(escaped(cell) for cell in line) + " |" for line in lines)


def section(result: dict[str, Any]) -> str:
    """One bench's part of the page."""
    parts = [f"## {result['title']}", str(result["how"])]
    parts += [f"{table['title']}:\n\n{as_table(table['columns'], table['rows'])}" for table in result["tables"]]
    parts.append(
        f"`{result['command']}`, {result['date']}; {result['machine']}, load {result['load']}; {result['versions']}."
    )
    return "\n\n".join(parts)


def summary(results: list[dict[str, Any]]) -> str:
    """All figures that have a limit."""
    rows = [
        [claim["what"], claim["measured"], claim["limit"], "yes" if claim["holds"] else "**no**"]
        for result in results
        for claim in result["claims"]
    ]
    return "## Figures with a limit\n\n" + as_table(["what", "measured", "limit", "holds"], rows)


def page(results: dict[str, dict[str, Any]]) -> str:
    """The whole page."""
    known = [results[name] for name in ORDER if name in results]
    if not known:
        return HEAD + "\nNothing is measured yet.\n"
    parts = [section(result) for result in known] + ([] if "device" in results else [NOT_MEASURED])
    return "\n".join([HEAD, summary(known), "", "\n\n".join(parts), ""])


def main() -> None:
    """Write the page."""
    write_atomic(PAGE, page(load_results()))
    print(f"written to {PAGE.relative_to(PROJECT_ROOT)}")


if __name__ == "__main__":
    main()
