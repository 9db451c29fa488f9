"""The ledger as people read it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, OverflowMethod, RenderableType
from rich.text import Text

from lora_foundry.config.called import command_line
from lora_foundry.launch.plan.clock import in_words
from lora_foundry.launch.records.ledger import Sweep
from lora_foundry.launch.records.state import JobState
from lora_foundry.wire.states import AS_MEANT

_STYLE = {"FINISHED": "green", "FAILED": "bold red", "KILLED": "yellow", "LOST": "yellow", "RUNNING": "cyan"}
_HEADS = (
    *("job", "name", "state", "device", "step", "samples/s", "GiB", "val loss", "of base's"),
    *("started", "took", "restarts", "memory"),
)
_LEFT = ("name", "state", "device", "memory")
_GAP = "  "
_LESSER = ("started", "GiB", "device", "of base's", "samples/s", "took", "memory", "restarts")  # first to go first
_TOLD_BY_NAME = re.compile(r"\d\d-\d\d-\d\d")  # the folder's name has the time


def board(sweeps: Sequence[Sweep], *, unfold: bool) -> RenderableType:
    """Sweeps that run, then the others, each the newest first; one that finished whole is a line.

    Args:
        sweeps: The newest first.
        unfold: Whether those that finished are shown with their jobs, too.
    """
    if not sweeps:
        return Text(f"No sweep yet: {command_line('train', 'lora.rank=4,8,16', '-m')}")
    ordered = sorted(sweeps, key=lambda sweep: not sweep.running)
    parts: list[RenderableType] = []
    for place, sweep in enumerate(ordered):
        folded = not unfold and _is_finished(sweep)
        if parts and not (folded and _is_finished(ordered[place - 1]) and not unfold):
            parts.append(Text(""))
        parts += [_Line(_title(sweep, with_best=folded))] if folded else _open(sweep)
    if not unfold and any(map(_is_finished, sweeps)):
        parts += [
            Text(""),
            _Line(Text(f"{command_line('status')} --all shows the jobs of finished sweeps", style="dim")),
        ]
    return Group(*parts)


def _is_finished(sweep: Sweep) -> bool:
    return not sweep.running and all(job.state in AS_MEANT for job in sweep.jobs)


def _title(sweep: Sweep, *, with_best: bool) -> Text:
    counts: dict[str, int] = {}
    for job in sweep.jobs:
        word = sweep.word(job)
        counts[word] = counts.get(word, 0) + 1
    said = ", ".join(f"{count} {state.lower()}" for state, count in sorted(counts.items()))
    folder = str(sweep.dir)
    when = "" if _TOLD_BY_NAME.search(folder) else time.strftime("%d %b %H:%M  ", time.localtime(sweep.stored.created))
    told = f", best {sweep.best}" if with_best and sweep.best else ""
    return Text.assemble((folder, "" if with_best else "bold"), f"  {when}{said or 'no job was written'}{told}")


def _open(sweep: Sweep) -> list[RenderableType]:
    parts: list[RenderableType] = [_Line(_title(sweep, with_best=False))]
    pace = _pace(sweep)
    parts += [_Line(Text(f"  {pace}", style="cyan"))] if pace else []
    parts += [_Fitting([_cells(job, sweep.word(job)) for job in sweep.jobs])] if sweep.jobs else []
    parts.extend(Text(f"  waiting: {line}", style="yellow") for line in sweep.waiting)
    forked = [(job.stored.name, job.lineage) for job in sweep.jobs if job.lineage is not None]
    parts.extend(Text(f"  {name}: {lineage.words}", style="dim") for name, lineage in forked)
    broken = [job for job in sweep.jobs if job.error and job.state == "FAILED"]
    parts.extend(Text(f"  {job.stored.name}: {job.error}", style="red") for job in broken)
    if sweep.verdict is not None:
        parts.append(Text(f"  best: {sweep.verdict.sentence}", style="green"))
    if not sweep.running and any(sweep.word(job) in ("LOST", "KILLED") for job in sweep.jobs):
        parts.append(Text(f"  to go on: {command_line('resume', sweep.dir)}", style="dim"))
    return parts


def _pace(sweep: Sweep) -> str:
    """How long a running sweep takes yet, how fast it is and what memory it has."""
    running = [job for job in sweep.jobs if job.state == "RUNNING"] if sweep.running else []
    speed = sum(job.samples_per_s or 0.0 for job in running)
    gib = _memory(running)
    said = [f"about {in_words(sweep.ends - time.time())} left"] if sweep.ends and sweep.ends > time.time() else []
    said += [f"{speed:.3g} samples/s"] if speed else []
    said += [f"{gib:.3g} GiB"] if gib else []
    return ", ".join(said) if sweep.running else ""


def _memory(running: Sequence[JobState]) -> float:
    """GiB of the processes that jobs train in: those of one slot share theirs."""
    by_slot: dict[str | None, float] = {}
    for job in running:
        by_slot[job.device] = max(by_slot.get(job.device, 0.0), job.memory_gib or 0.0)
    return sum(by_slot.values())


class _Line:
    """One line of text, cut at a terminal's edge and whole in a file."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        self._text.no_wrap, self._text.overflow = True, None if options.no_wrap else "ellipsis"
        yield self._text


class _Fitting:
    """A table that leaves out empty columns, and on a narrow terminal the lesser ones, rather than cut names.

    Laid out here: Rich measures every cell of its own table several times, a second and a half for a thousand jobs.
    """

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        self._rows = rows
        filled = [head for head in _HEADS if any(row[head] for row in self._rows)]
        self._widths = {head: max(cell_len(text) for text in (head, *(r[head] for r in self._rows))) for head in filled}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        heads = list(self._widths)
        for lesser in _LESSER:
            if sum(self._widths[head] for head in heads) + len(_GAP) * (len(heads) - 1) <= options.max_width:
                break
            heads = [head for head in heads if head != lesser]
        cut: OverflowMethod | None = None if options.no_wrap else "ellipsis"  # no_wrap: written to a file, whole
        yield Text(self._line(dict(zip(heads, heads, strict=True))), "dim", no_wrap=True, overflow=cut)
        for row in self._rows:
            line = Text(self._line({head: row[head] for head in heads}), no_wrap=True, overflow=cut)
            if "state" in heads:
                before = sum(self._widths[head] + len(_GAP) for head in heads[: heads.index("state")])
                line.stylize(_STYLE.get(row["state"], "dim"), before, before + len(row["state"]))
            yield line

    def _line(self, cells: Mapping[str, str]) -> str:
        padded = []
        for head, text in cells.items():
            space = " " * (self._widths[head] - cell_len(text))
            padded.append(text + space if head in _LEFT else space + text)
        return _GAP.join(padded).rstrip()


def _cells(job: JobState, word: str) -> dict[str, str]:
    step = "" if job.step is None else f"{job.step}/{job.total}" if job.total else str(job.step)
    loss, relative = (job.summary.loss, job.summary.compared) if job.summary else (None, None)
    return {
        "job": str(job.stored.job),
        "name": job.stored.name,
        "state": word,
        "device": job.device or "",
        "step": step,
        "samples/s": _number(job.samples_per_s),
        "GiB": _number(job.memory_gib),
        "val loss": "" if loss is None else f"{loss:.4f}",
        "of base's": "" if relative is None else f"{relative:.3f}",
        "started": "" if job.started_at is None else time.strftime("%H:%M", time.localtime(job.started_at)),
        "took": _took(job, word),
        "restarts": str(job.restarts) if job.restarts else "",
        "memory": ", ".join(dict.fromkeys(job.memory_changes)),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _took(job: JobState, word: str) -> str:
    if job.started_at is None or (job.ended_at is None and word != "RUNNING"):
        return ""
    seconds = int((job.ended_at or time.time()) - job.started_at)
    hours, rest = divmod(max(0, seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
