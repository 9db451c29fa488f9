"""The table at the end of a sweep, and the paths and commands below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lora_foundry.config.paths import SHIPPED
from lora_foundry.config.quoting import shell
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.tracking.addresses import DATABASES, SERVERS, default_store, scheme_of, shown, store_of
from lora_foundry.wire.outcomes import JobOutcome

_SHOWN_ALREADY = ("lora.rank", "name", "resume")
_FILE = "file"
_OWN_UI = "http://127.0.0.1:5000"


def print_results(
    console: Console, sweep_dir: Path, results: Sequence[JobOutcome], swept: Mapping[int, Mapping[str, str]]
) -> None:
    """Print the comparison, best row marked; on a narrow terminal the lesser columns go, and files stand below.

    Args:
        console: Where to.
        sweep_dir: Folder that the files' paths start from.
        results: The sweep's jobs.
        swept: Job number to swept key to value.
    """
    from lora_foundry.judge.verdict import in_words, spreads, verdict_of  # numpy, which no other command waits for

    verdict = verdict_of(results)
    first = None if verdict is None else next(result for result in results if result.job == verdict.job)
    rows = [_cells(sweep_dir, result, swept.get(result.job, {}), best=result is first) for result in results]
    heads = list(rows[0]) if rows else []
    lesser = [_FILE, "size", "seconds", *(_head(key) for key in _swept_keys(swept)), "rank"]  # the name tells the last
    table = _table(rows, heads, results, first)
    while lesser and Measurement.get(console, console.options.update(max_width=10_000), table).maximum > console.width:
        heads = [head for head in heads if head != lesser[0]]
        lesser = lesser[1:]
        table = _table(rows, heads, results, first)
    console.print(table)
    if _FILE not in heads:
        for row, result in zip(rows, results, strict=True):
            if row[_FILE]:
                plain(console, f"  {result.name}: {row[_FILE]}")
    folded = [in_words(one) for one in spreads(results) if one.by_image and one.name]
    for line in (*before_the_end(results), *_early(results), *_averages(results), *_forks(results), *folded):
        plain(console, line)
    if verdict is not None:
        console.print(Text(f"Best:     {verdict.sentence}", style="green"), soft_wrap=not console.is_terminal)


def before_the_end(results: Sequence[JobOutcome]) -> list[str]:
    """A line for each job whose best adapter is not its last: it is compared by the best."""
    return [
        f"{result.name}: best at step {told.best_step} of {told.steps}: {told.compared:.3f} of the base's "
        f"({_last(told.val_loss_rel)})"
        for result in results
        if (told := result.summary) is not None and result.score is not None and told.better_before
    ]


def _early(results: Sequence[JobOutcome]) -> list[str]:
    told = {result.name: result.summary.stopped_early for result in results if result.summary is not None}
    return [f"{name}: {text}" for name, text in told.items() if text is not None]


def _averages(results: Sequence[JobOutcome]) -> list[str]:
    return [
        f"{result.name}: mean of its last {told.averaged} adapters: {told.average_val_loss_rel:.3f} of the base's "
        f"({_last(told.val_loss_rel)})"
        for result in results
        if (told := result.summary) is not None and told.average_val_loss_rel is not None
    ]


def _forks(results: Sequence[JobOutcome]) -> list[str]:
    return [f"{result.name}: {result.lineage.words}" for result in results if result.lineage is not None]


def _last(relative: float | None) -> str:
    return "the last has no number" if relative is None else f"last {relative:.3f}"


def plain(console: Console, text: str) -> None:
    """A line that is never wrapped or coloured inside, so that a path can be copied."""
    console.print(Text(text), soft_wrap=True)


def ui_command(tracking: TrackingConfig) -> str:
    """The command that opens MLflow's UI over these runs; of a server its address."""
    uri, _ = store_of(tracking)
    if uri == default_store():
        return "make ui" if Path.cwd() == SHIPPED else shell(["make", "-C", SHIPPED, "ui"])
    return shell(["mlflow", "ui", "--backend-store-uri", uri]) if scheme_of(uri) in DATABASES else shown(uri)


def ui_address(tracking: TrackingConfig) -> str | None:
    """Where MLflow's UI answers, without a name or a password in it; null where that cannot be known.

    Of a database it is where :func:`ui_command` opens it.
    """
    uri, _ = store_of(tracking)
    if scheme_of(uri) in DATABASES:
        return _OWN_UI
    parts = urlsplit(uri)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
    return bare.rstrip("/") if scheme_of(uri) in SERVERS else None


def near(path: Path) -> str:
    """``path`` from the working folder where it lies below it, else whole."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _swept_keys(swept: Mapping[int, Mapping[str, str]]) -> list[str]:
    return [key for key in dict.fromkeys(k for row in swept.values() for k in row) if key not in _SHOWN_ALREADY]


def _cells(sweep_dir: Path, result: JobOutcome, swept: Mapping[str, str], *, best: bool) -> dict[str, str]:
    measures = _measures(result) if result.state == "FINISHED" else (result.state, "", "", "")
    return {
        "name": f"{result.name} *" if best else result.name,
        "rank": str(result.rank),
        **{_head(key): swept[key] for key in _swept_keys({0: swept})},
        **dict(zip(("val loss", "of base's", "size", "seconds"), measures, strict=True)),
        _FILE: _file(sweep_dir, result),
    }


def _table(
    rows: Sequence[Mapping[str, str]], heads: Sequence[str], results: Sequence[JobOutcome], best: JobOutcome | None
) -> Table:
    table = Table(header_style="bold")
    for head in heads:
        whole = head in ("name", _FILE)
        table.add_column(head, justify="left" if whole else "right", no_wrap=whole)
    for row, result in zip(rows, results, strict=True):
        style = "bold green" if result is best else ("red" if result.state == "FAILED" else "")
        table.add_row(*(Text(row.get(head, "")) for head in heads), style=style)
    return table


def _head(key: str) -> str:
    return {"data.batch_size": "batch", "optimizer.lr": "lr"}.get(key, key.rsplit(".", 1)[-1])


def _measures(result: JobOutcome) -> tuple[str, str, str, str]:
    told = result.summary
    if told is None:
        return "", "", "", ""
    judged = not result.on_every_image
    return (
        f"{told.loss:.4f}" if judged and told.loss is not None else "",
        f"{told.compared:.3f}" if judged and told.compared is not None else "",
        "" if told.bytes is None else _size(told.bytes),
        "" if told.seconds is None else f"{told.seconds:.0f}",
    )


def _size(count: float) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def _file(sweep_dir: Path, result: JobOutcome) -> str:
    return near(sweep_dir / result.file_to_keep) if result.file_to_keep else ""
