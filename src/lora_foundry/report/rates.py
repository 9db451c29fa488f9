"""The curves of ``src.find_lr``: for a terminal, and as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from lora_foundry.config.files import write_atomic
from lora_foundry.judge.rates import RateChoice, RateCurve

_BLOCKS = "▁▂▃▄▅▆▇█"
_DASH = "·"


def told(setting: str, curves: Sequence[RateCurve], choice: RateChoice | None) -> list[str]:
    """What a terminal shows of one setting: its curves, the rate to use and why.

    Args:
        setting: What else was swept; empty where nothing was.
        curves: By rate, ascending.
        choice: The rate to use; null where no rate got below the base's loss.
    """
    shown = [*([setting] if setting else []), "     rate  loss        at the end"]
    shown += lines(curves, None if choice is None else choice.rate)
    if choice is None:
        return [
            *shown,
            "No rate got below the base's loss; give more samples (--samples), or other rates (--low, --high).",
        ]
    advice = f" But {choice.advice}." if choice.advice else ""
    return [*shown, f"Use optimizer.lr={choice.rate:g}: {choice.why}.{advice}"]


def lines(curves: Sequence[RateCurve], chosen: float | None) -> list[str]:
    """A line for each rate: its loss along the way as blocks, where it ended, and what is said of it.

    Args:
        curves: By rate, ascending.
        chosen: The rate to use.
    """
    finite = [value for one in curves for value in one.losses if math.isfinite(value)]
    low, high = min(finite, default=0.0), min(max(finite, default=1.0), 1.5)
    told = []
    for one in curves:
        mark = "use this" if one.rate == chosen else "" if one.stable else "failed" if one.failed else "unstable"
        drawn = "".join(_block(value, low, high) for value in one.losses)
        ended = f"{one.last:.3f}" if math.isfinite(one.last) else "no number"
        told.append(f"{one.rate:>9.2g}  {drawn:<8}  {ended:>9}  {mark}".rstrip())
    return told


def _block(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return _DASH
    share = (min(value, high) - low) / (high - low) if high > low else 0.0
    return _BLOCKS[round(share * (len(_BLOCKS) - 1))]


def draw(folder: Path, settings: Sequence[tuple[str, Sequence[RateCurve], float | None]]) -> Path:
    """``find_lr.png``: the loss at the end over the rate, a line a setting, the rate to use marked.

    Args:
        folder: Where.
        settings: What each is called, its curves by rate, and its rate to use.

    Raises:
        OSError: When it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, curves, chosen in settings:
        shown = [(one.rate, min(one.last, 1.5)) for one in curves if math.isfinite(one.last)]
        (line,) = axes.plot(*zip(*shown, strict=True), marker="o", label=name or "loss after the short run")
        for one in curves:
            if not one.stable:
                axes.plot([one.rate], [min(one.last, 1.5)], marker="x", markersize=10, color=line.get_color())
        if chosen is not None:
            axes.axvline(chosen, color=line.get_color(), linestyle="--", label=f"use {chosen:.2g}")
    axes.axhline(1.0, color="#76808c", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation loss over the base's (x: unstable)")
    axes.legend(frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    path = folder / "find_lr.png"
    write_atomic(path, file.getvalue())
    return path
