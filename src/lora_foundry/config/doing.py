"""What a training does, one thing at a time, and how people are told what takes the most memory of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Doing = Literal["encoding", "step", "validation", "drawing", "exporting", "saving"]
"""Images and captions are encoded before the first step; the rest is done by a pack."""

WHILE: Mapping[Doing, str] = {
    "encoding": "while images and captions are encoded",
    "step": "in a step",
    "validation": "while it is scored",
    "drawing": "while it draws",
}
"""Of what is predicted."""

NO_DRAWING = "sample=none"
"""The words that spare a job its pictures."""


def most_is_taken(doing: Doing) -> str:
    """That it is no step that takes the most memory, and what would spare it."""
    return f"the most {WHILE[doing]}{spared_by(doing)}"


def spared_by(doing: Doing) -> str:
    """What would spare it, in brackets behind what is said of it; nothing where nothing would."""
    return f" ({NO_DRAWING} draws nothing)" if doing == "drawing" else ""
