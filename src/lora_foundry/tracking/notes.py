"""What MLflow's pages say of an experiment and of each run, beside their charts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wire.verdict import Verdict

NOTE = "mlflow.note.content"
"""The tag that the pages show as a description, which is Markdown."""
AXIS = (
    "**Step on the axis of a chart is samples: training images seen so far**, so that curves of different batch sizes "
    "line up. The optimizer's own steps are the metric `train/step`."
)
"""MLflow calls the axis Step, and has no place of its own to say what one is."""
_MOST_ROWS = 12
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|-])")
_HEAD = "| run | of base's | best step | state |\n|---|---|---|---|"


@dataclass(frozen=True, kw_only=True, slots=True)
class Linked:
    """Where a sweep's note leads to; addresses behind that of the server.

    Attributes:
        view: All of its jobs in one chart; null of a sweep of one.
        runs: Job number to the page of its run.
        names: Job number to what its run is called.
        picture: What every adapter makes of the same prompts; null where nothing was drawn.
        report: The page with everything; null where none was written.
    """

    view: str | None
    runs: Mapping[int, str]
    names: Mapping[int, str]
    picture: str | None
    report: str | None


def begun(linked: Linked) -> str:
    """Of a sweep that runs."""
    return _joined([_links(linked), AXIS])


def ended(verdict: Verdict | None, outcomes: Sequence[JobOutcome], linked: Linked) -> str:
    """Of a sweep that has ended: which to keep and how sure that is, the best jobs, and their pictures."""
    picture = f"![What each adapter makes of the same prompts]({linked.picture})" if linked.picture else ""
    return _joined([_kept(verdict, linked), _links(linked), _table(outcomes, verdict, linked), picture, AXIS])


def winner(sentence: str) -> str:
    """Of the run of the job to keep."""
    return _joined([f"**The one to keep of its sweep**: {plain(sentence)}", AXIS])


def plain(text: str) -> str:
    """A text that Markdown leaves as it is."""
    return _MARKDOWN.sub(r"\\\1", text)


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part)


def _kept(verdict: Verdict | None, linked: Linked) -> str:
    if verdict is None:
        return ""
    where = "" if verdict.file is None else f", file `{verdict.file}`"
    name = plain(linked.names.get(verdict.job, verdict.name))
    run = f"[{name}]({linked.runs[verdict.job]})" if verdict.job in linked.runs else name
    return f"**{plain(verdict.sentence)}**\n\nBest: {run}{where}"


def _links(linked: Linked) -> str:
    places = {"all jobs in one chart": linked.view, "the report": linked.report}
    return " · ".join(f"[{words}]({place})" for words, place in places.items() if place is not None)


def _table(outcomes: Sequence[JobOutcome], verdict: Verdict | None, linked: Linked) -> str:
    """The lowest loss first."""
    ranked = sorted(outcomes, key=lambda one: (one.score is None, one.score or 0.0, one.job))
    if len(ranked) < 2:
        return ""
    rows = [_row(one, verdict, linked) for one in ranked[:_MOST_ROWS]]
    more = [f"and {len(ranked) - _MOST_ROWS} more"] if len(ranked) > _MOST_ROWS else []
    return _joined(["\n".join([_HEAD, *rows]), *more])


def _row(one: JobOutcome, verdict: Verdict | None, linked: Linked) -> str:
    name = plain(linked.names.get(one.job, one.name))
    told = f"[{name}]({linked.runs[one.job]})" if one.job in linked.runs else name
    best = verdict is not None and verdict.job == one.job
    loss = "" if one.score is None else f"{one.score:.4f}"
    step = "" if one.summary is None or one.summary.best_step is None else str(one.summary.best_step)
    cells = [told, loss, step, one.state.lower()]
    return "| " + " | ".join(f"**{cell}**" if best and cell else cell for cell in cells) + " |"
