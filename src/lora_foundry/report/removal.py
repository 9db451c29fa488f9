"""What ``src.ablate`` found: for a terminal, and as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from lora_foundry.config.files import write_atomic
from lora_foundry.judge.removal import Effect, Removals

FILE = "ablation.png"
_SHOWN = 2
_LONGEST = 40  # letters of a group's name
_HARM, _OPEN, _ZERO = "#c2410c", "#475569", "#94a3b8"


def named(without: Sequence[str]) -> str:
    """What a group is called: the folder or the tag, or its first images."""
    few = ", ".join(without[:_SHOWN]) + (", ..." if len(without) > _SHOWN else "")
    text = without[0] if len(without) == 1 else f"{len(without)}: {few}"
    return _cut("".join(letter if letter.isprintable() else "?" for letter in text))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def told(found: Removals) -> list[str]:
    """What a terminal shows: a line a group, the most harmful first, and what is to be done.

    Args:
        found: What the groups do.
    """
    names = [named(one.without) for one in found.effects]
    width = max(map(len, ["without", *names]))
    lines = [f"{'without':<{width}}   loss  adds to the loss", f"{'nothing':<{width}}  {found.loss:.3f}"]
    lines += [
        f"{name:<{width}}  {one.loss:.3f}  {_interval(one)}{'  harms' if one.harms else ''}"
        for name, one in zip(names, found.effects, strict=True)
    ]
    return [*lines, sentence(found)]


def sentence(found: Removals) -> str:
    """Which group does harm, with numbers; or that none does so that it can be shown."""
    over = f"{found.images} held-out images" + (f" and {found.seeds} seeds" if found.seeds > 1 else "")
    harmful = [one for one in found.effects if one.harms]
    if not harmful:
        more = "" if found.seeds > 1 else "; --seeds 3 looks closer"
        return f"No group does harm that {over} can show{more}."
    groups = " and ".join(f"{named(one.without)} ({_interval(one).strip()})" for one in harmful)
    return f"Leave out {groups}: the loss is lower without, by {over}."


def _interval(one: Effect) -> str:
    return f"{one.interval.percent:+6.2f} % [{one.interval.low:+.2f}, {one.interval.high:+.2f}]"


def draw(folder: Path, found: Removals) -> Path:
    """``ablation.png``: for each group what it adds to the loss, with its interval; harmful ones stand out.

    Args:
        folder: Where.
        found: What the groups do.

    Raises:
        OSError: When it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.4 + 0.34 * len(found.effects)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, one in enumerate(reversed(found.effects)):
        colour, own = _HARM if one.harms else _OPEN, one.interval
        axes.plot([own.low, own.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot([own.percent], [place], marker="o", color=colour)
    axes.axvline(0.0, color=_ZERO, linewidth=1)
    axes.set_yticks(
        range(len(found.effects)), [named(one.without) for one in reversed(found.effects)], parse_math=False
    )
    axes.set_xlabel("what these images add to the held-out loss, % (right of 0: harm)")
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    path = folder / FILE
    write_atomic(path, file.getvalue())
    return path
