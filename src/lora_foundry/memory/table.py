"""What ``python -m src.predict`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.table import Table

from lora_foundry.config.doing import WHILE, most_is_taken, spared_by
from lora_foundry.memory.between import are_known, most_of
from lora_foundry.memory.fits import MOST_BATCH, MOST_RANK, MOST_RESOLUTION, Most, most_that_fits
from lora_foundry.memory.libraries import on_card
from lora_foundry.memory.predict import GIB, is_known, predict
from lora_foundry.memory.record import correction

if TYPE_CHECKING:
    from lora_foundry.config import JobConfig
    from lora_foundry.config.doing import Doing

_MOST = "at most"
_SHORT = {
    "data.batch_size": "batch",
    "lora.rank": "rank",
    "data.resolution": "px",
    "trainer.gradient_checkpointing": "checkpointing",
}

_ALWAYS = ("data.batch_size", "lora.rank", "data.resolution")
_IN_LINES = {
    "adapters": "adap-\nters",
    "adapter": "adap-\nter",
    "gradients": "gradi-\nents",
    "optimizer": "opti-\nmizer",
    "activations": "activa-\ntions",
    "on a card": "on a\ncard",
    _MOST: "at\nmost",
    "checkpointing": "check-\npointing",
    "most batch": "most\nbatch",
    "most rank": "most\nrank",
    "most px": "most\npx",
    "most members": "most\nmembers",
}
_WIDEST = 1000

_SIGNS = {
    "-": "not even the least fits, the other values being as asked for; a lower batch, rank or resolution may",
    "+": "the most that is allowed, and it fits",
}


class Row(Protocol):
    """One job of a command line."""

    @property
    def words(self) -> tuple[str, ...]:
        """What makes it."""

    @property
    def config(self) -> JobConfig:
        """Its configuration."""


def print_needs(points: Sequence[Row], members: int, console: Console | None = None) -> None:
    """A row a point: its peak in GiB, and what it is made of."""
    console = console or Console()
    beside = on_card()
    with _patience(console, points) as tell:
        steps, most = [], []
        for point in points:
            tell(point)
            steps.append(predict(point.config, members=members, beside=beside))
            most.append(most_of(point.config, members=members, beside=beside))
    others = list(dict.fromkeys(needs.doing for needs in most if needs.doing != "step"))
    table = _table(_title(points, members), points)
    table.add_column("GiB", justify="right", style="bold", no_wrap=True)
    heads = ["base", "adapter" if members == 1 else "adapters", "gradients", "optimizer", "activations", "on a card"]
    for head in [*heads, *([_MOST] if others else [])]:
        table.add_column(head, justify="right", no_wrap=True)
    for point, needs, all_in_all in zip(points, steps, most, strict=True):
        worked_with = needs.copies + needs.activations
        parts = [needs.weights, needs.adapters, needs.gradients, needs.optimizer, worked_with, needs.total]
        parts += [all_in_all.total] if others else []
        table.add_row(*_values(point, _swept(points)), _gib(needs.tensors), *map(_gib, parts))
    console.print(_narrow_enough(table, console))
    for doing in others:
        console.print(f"{_MOST}: on a card, {most_is_taken(doing)}", highlight=False)
    told = correction(points[0].config, "cpu")
    if told.runs and told.factor != 1.0:
        console.print(
            f"The last {told.runs} runs on this machine's CPU took {told.factor:.2f} of what was predicted.",
            style="dim",
        )
    if told.older:
        console.print(
            f"{told.older} older records of this machine's CPU, noted beside other predictions, correct nothing.",
            style="dim",
        )
    console.print(
        f"Tensors of a step, in GiB. A process on a card takes {beside.workspaces / GIB:.2f} GiB of workspaces and "
        f"{beside.context / GIB:.2f} of CUDA more, and {beside.kept_share:.0%} of the activations that its allocator "
        "keeps; on a CPU it is the program itself (about 0.7 GiB).",
        style="dim",
    )


def print_fits(points: Sequence[Row], card_gib: float, console: Console | None = None) -> None:
    """Two rows a point, without and with gradient checkpointing: the most that fits ``card_gib``."""
    console = console or Console()
    budget = int(card_gib * GIB)
    beside = on_card()
    context = f"{(beside.context + beside.workspaces) / GIB:.2f} GiB of it is CUDA's and its libraries'"
    title = f"What fits {card_gib:g} GiB, one value raised at a time ({context})"
    table = _table(title, points)
    table.add_column("checkpointing", justify="right", no_wrap=True)
    for head in ("most batch", "most rank", "most px", "most members"):
        table.add_column(head, justify="right", no_wrap=True)
    told: list[str] = []
    others: list[Doing] = []
    with _patience(console, points) as tell:
        for point in points:
            for checkpointing in (False, True):
                tell(point)
                most = most_that_fits(point.config, budget, checkpointing=checkpointing, beside=beside)
                table.add_row(*_values(point, _swept(points)), "on" if checkpointing else "off", *_most(most))
                told.extend(_most(most))
                others += [most.too_much] if most.too_much is not None else []
    console.print(_narrow_enough(table, console))
    for doing in dict.fromkeys(others):
        console.print(f"a step would fit, but it is too much {WHILE[doing]}{spared_by(doing)}", highlight=False)
    for sign, meaning in _SIGNS.items():
        if any(cell.endswith(sign) for cell in told):
            console.print(f"{sign}: {meaning}", style="dim", highlight=False)


def _most(most: Most) -> Iterator[str]:
    """A dash where nothing fits, a plus where the largest that is allowed does."""
    ends = (MOST_BATCH, MOST_RANK, MOST_RESOLUTION, None)
    for value, end in zip((most.batch, most.rank, most.resolution, most.members), ends, strict=True):
        yield "-" if not value else f"{value}+" if value == end else str(value)


def _table(title: str, points: Sequence[Row]) -> Table:
    """One that begins with what is swept, whose values may take several lines; numbers do not."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for key in _swept(points):
        head = _SHORT.get(key, key.rpartition(".")[2])
        table.add_column(head, justify="right", no_wrap=key in _ALWAYS, overflow="fold")
    return table


def _narrow_enough(table: Table, console: Console) -> Table:
    """``table``, with heads of several lines where the screen has no room for others."""
    if console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum > console.width:
        for column in table.columns:
            column.header = _IN_LINES.get(str(column.header), column.header)
    return table


def _title(points: Sequence[Row], members: int) -> str:
    first = points[0].config
    many = f"{members} adapters together, " if members > 1 else ""
    names = ", ".join(dict.fromkeys(point.config.model.name for point in points))
    return f"Peak memory of a step: {names}, {many}{first.trainer.precision}"


def _swept(points: Sequence[Row]) -> list[str]:
    """Keys whose values differ, and batch, rank and resolution always."""
    words = [dict(word.partition("=")[::2] for word in point.words) for point in points]
    differ = [key for key in words[0] if len({one.get(key) for one in words}) > 1]
    return [*[key for key in differ if key not in _ALWAYS], *_ALWAYS]


def _values(point: Row, keys: Sequence[str]) -> list[str]:
    given = dict(word.partition("=")[::2] for word in point.words)
    data, lora = point.config.data, point.config.lora
    own = {"data.batch_size": data.batch_size, "lora.rank": lora.rank, "data.resolution": data.resolution}
    return [str(own.get(key, given.get(key, ""))) for key in keys]


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"


@contextmanager
def _patience(console: Console, points: Sequence[Row]) -> Iterator[Callable[[Row], None]]:
    """A line while traces are taken, which is seconds each; nothing where all are known."""
    unknown = [point for point in points if not is_known(point.config) or not are_known(point.config)]
    if not unknown:
        yield lambda _: None
        return
    with console.status("tracing a step of each kind (once; later looks are instant)") as status:
        yield lambda point: status.update(f"tracing a step: {' '.join(point.words) or 'defaults'}")
