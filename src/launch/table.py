"""The table at the end of a sweep, and the paths and commands below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from src.config.paths import PROJECT_ROOT
from src.config.schema import TrackingConfig
from src.launch.results import JobOutcome

_SHOWN_ALREADY = ("lora.rank", "name", "resume")
_FILE = "file"


def print_results(
    console: Console, sweep_dir: Path, results: Sequence[JobOutcome], swept: Mapping[int, Mapping[str, str]]
) -> None:
    """Print the comparison, best row marked; files that do not fit in it are printed below, whole.

    Args:
        console: Where to.
        sweep_dir: Folder that the files' paths start from.
        results: The sweep's jobs.
        swept: Job number to swept key to value.
    """
    best = best_of(results)
    files = {result.index: _file(sweep_dir, result) for result in results}
    table = _table(results, swept, best, files)
    fits = Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width
    console.print(table if fits else _table(results, swept, best, {}))
    if not fits:
        for result in results:
            if files[result.index]:
                plain(console, f"  {result.name}: {files[result.index]}")
    if best is not None and len(results) > 1:
        console.print(Text(f"Best by validation loss: {best.name}", style="green"))


def plain(console: Console, text: str) -> None:
    """A line that is never wrapped or coloured inside, so that a path can be copied."""
    console.print(Text(text), soft_wrap=True)


def best_of(results: Sequence[JobOutcome]) -> JobOutcome | None:
    """The finished job with the lowest validation loss."""
    scored = [(result.number("val_loss"), result) for result in results if result.state == "FINISHED"]
    known = [(loss, result.index, result) for loss, result in scored if loss is not None]
    return min(known)[2] if known else None


def ui_command(tracking: TrackingConfig) -> str:
    """The command that opens MLflow's UI over these runs."""
    root = Path(tracking.root).expanduser().absolute()
    if tracking.uri is None and root == PROJECT_ROOT / "mlruns":
        return "make ui"
    uri = tracking.uri or f"sqlite:///{root / 'mlflow.db'}"
    return f"mlflow ui --backend-store-uri {uri}"


def near(path: Path) -> str:
    """``path`` from the working folder where it lies below it, else whole."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _table(
    results: Sequence[JobOutcome],
    swept: Mapping[int, Mapping[str, str]],
    best: JobOutcome | None,
    files: Mapping[int, str],
) -> Table:
    keys = [key for key in dict.fromkeys(k for row in swept.values() for k in row) if key not in _SHOWN_ALREADY]
    table = Table(header_style="bold")
    table.add_column("name", no_wrap=True)
    for head in ("rank", *(_head(key) for key in keys), "val loss", "of base's", "size", "seconds"):
        table.add_column(head, justify="right")
    if files:
        table.add_column(_FILE, no_wrap=True)
    for result in results:
        mark = result is best and len(results) > 1
        cells = [
            f"{result.name} *" if mark else result.name,
            str(result.rank),
            *(swept.get(result.index, {}).get(key, "") for key in keys),
            *(_measures(result) if result.state == "FINISHED" else (result.state, "", "", "")),
            *([files[result.index]] if files else []),
        ]
        style = "bold green" if mark else ("red" if result.state == "FAILED" else "")
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _head(key: str) -> str:
    return {"data.batch_size": "batch", "optimizer.lr": "lr"}.get(key, key.rsplit(".", 1)[-1])


def _measures(result: JobOutcome) -> tuple[str, str, str, str]:
    loss, relative = result.number("val_loss"), result.number("val_loss_rel")
    size, seconds = result.number("bytes"), result.number("seconds")
    return (
        "" if loss is None else f"{loss:.4f}",
        "" if relative is None else f"{relative:.3f}",
        "" if size is None else _size(size),
        "" if seconds is None else f"{seconds:.0f}",
    )


def _size(count: float) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def _file(sweep_dir: Path, result: JobOutcome) -> str:
    file = (result.summary or {}).get(_FILE)
    return near(sweep_dir / str(file)) if result.state == "FINISHED" and file else ""
