"""The end of a sweep: what a person looks at first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_foundry.wire.outcomes import JobOutcome

FILE = "comparison.png"


def finish_sweep(sweep_dir: Path, results: Sequence[JobOutcome]) -> Path | None:
    """Write ``comparison.png``: rows are prompts, columns the base and each job's adapter.

    Returns the picture's path, or null when no job drew anything (``sample=none``).

    Raises:
        OSError: When the folder cannot be written.
    """
    from lora_foundry.report.comparison import draw
    from lora_foundry.report.drawings import read_drawings

    drawings = read_drawings(sweep_dir)
    if not drawings:
        return None
    return draw(sweep_dir, drawings, results, sweep_dir / FILE)
