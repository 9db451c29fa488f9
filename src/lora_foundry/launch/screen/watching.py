"""The ledger on a terminal: once, or again and again until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.records.ledger import Sweep
from lora_foundry.launch.screen.board import board
from lora_foundry.launch.screen.live import PatientConsole, is_live

_EVERY_S = 1.0
_PLAIN_EVERY_S = 10.0  # where nothing can be drawn over, each look stays


def show(sweeps: Sequence[Sweep], *, unfold: bool) -> int:
    """Print them once; returns the exit code."""
    console = PatientConsole()
    console.print(board(sweeps, unfold=unfold), soft_wrap=not console.is_terminal)
    return 0


def watch(look: Callable[[], Sequence[Sweep]], *, unfold: bool) -> int:
    """Print what ``look`` finds until Ctrl-C; returns the exit code."""
    console = PatientConsole()
    try:
        return _draw(console, look, unfold=unfold) if is_live(console) else _repeat(console, look, unfold=unfold)
    except KeyboardInterrupt:
        return 0
    except SweepError as error:  # its folder was removed meanwhile
        console.print(f"sweep: {error.problems[0]}", markup=False, soft_wrap=True)
        return 0


def _draw(console: Console, look: Callable[[], Sequence[Sweep]], *, unfold: bool) -> int:
    """In place; what does not fit is cut at the lower edge, where the oldest stand."""
    with Live(board(look(), unfold=unfold), console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(board(look(), unfold=unfold), refresh=True)
            time.sleep(_EVERY_S)


def _repeat(console: Console, look: Callable[[], Sequence[Sweep]], *, unfold: bool) -> int:
    """One below the other, when something has changed."""
    before = ""
    while not console.quiet:
        with console.capture() as captured:
            console.print(board(look(), unfold=unfold), soft_wrap=True)
        if captured.get() != before:
            before = captured.get()
            console.print(f"-- {time.strftime('%H:%M:%S')}", highlight=False)
            console.out(before, end="", highlight=False)
        time.sleep(_PLAIN_EVERY_S)
    return 0
