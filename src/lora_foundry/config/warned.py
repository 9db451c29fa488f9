"""What a person is warned of: a line on the screen, and the tag ``warning.<topic>`` on each run that it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PREFIX = "warning."
_SHOWN = 3  # names of jobs in a line; the rest is counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned:
    """One warning about a job.

    Attributes:
        topic: What it is about, as a slug: ``warmup``, ``captions``.
        text: What was got, and what it leads to, in one line.
    """

    topic: str
    text: str


def tags_of(warnings: Iterable[Warned]) -> dict[str, str]:
    """Tags of a run, by name; what is of one topic stands in one tag, a line each."""
    by_topic: dict[str, list[str]] = {}
    for one in warnings:
        by_topic.setdefault(one.topic, []).append(one.text)
    return {f"{PREFIX}{topic}": "\n".join(dict.fromkeys(texts)) for topic, texts in by_topic.items()}


def told(warnings: Mapping[str, Sequence[Warned]]) -> list[str]:
    """Lines for the screen, each text once; jobs are named where it is not about all of them.

    Args:
        warnings: A job's name to its warnings, for every job.
    """
    names_of: dict[str, list[str]] = {}
    for name, ones in warnings.items():
        for text in dict.fromkeys(one.text for one in ones):
            names_of.setdefault(text, []).append(name)
    return [
        f"warning: {text}" if len(names) == len(warnings) else f"warning: {_few(names)}: {text}"
        for text, names in names_of.items()
    ]


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
