"""What was found, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lora_foundry.doctor.report import Device, Driver, Place, Report, Store, Torch
from lora_foundry.launch.points.disks import in_units
from lora_foundry.launch.screen.live import PatientConsole

_INDENT = 2


def show(report: Report) -> None:
    """Print it to standard output."""
    console = PatientConsole(highlight=False)
    table = Table.grid(padding=(0, _INDENT))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for head, rows in groupby(_rows(report), key=lambda row: row[0]):
        for number, (_, text) in enumerate(rows):
            table.add_row("" if number else head, Text(text))
    console.print(Text(report.program, style="bold"))
    console.print(table)
    _list(console, "Training does not work here:", report.wrong, "red")
    _list(console, "Worth knowing:", report.notes, "yellow")
    if report.works:
        console.print(Text(f"Training works here: on {', '.join(report.trains_on)}.", style="green"))


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    yield "torch", _torch(report.torch)
    yield "driver", _driver(report.driver)
    for device in report.devices:
        yield device.name, _device(device)
    yield "MLflow", _store(report.store)
    for place in report.places:
        yield ("disk" if place.size is None else "cache"), _place(place)


def _torch(torch: Torch) -> str:
    return "none" if torch.version is None else f"{torch.version}, built for {torch.built_for}"


def _driver(driver: Driver) -> str:
    if driver.problem is not None:
        return f"none of NVIDIA's ({driver.problem})"
    return f"{driver.version or 'of an unknown version'}" + (f", runs CUDA up to {driver.cuda}" if driver.cuda else "")


def _device(device: Device) -> str:
    capability = "" if device.computes is None else f", {_kind(device.computes)}"
    state = " - cannot be used" if device.problem is not None else ""
    return f"{device.about}{capability}, trains best in {device.precision}{state}"


def _kind(computes: str) -> str:
    return f"compute capability {computes}" if computes[:1].isdigit() else computes


def _store(store: Store) -> str:
    if store.address is None and store.reached is None:
        return f"{store.mlflow or 'none'}, records nothing"
    state = {True: "ready", False: "not reached", None: "not asked"}[store.reached]
    return f"{store.mlflow or 'none'}, {store.address or 'no store'}, {state}"


def _place(place: Place) -> str:
    free = "" if place.free is None else f"{in_units(place.free)} free"
    held = "" if place.size is None else f"{'' if place.counted else 'more than '}{in_units(place.size)}"
    return f"{place.what} in {place.folder}: {held or free}"


def _list(console: Console, head: str, lines: Sequence[str], style: str) -> None:
    if not lines:
        return
    console.print(Text(head, style=style))
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("  -", Text(line))
    console.print(table)
