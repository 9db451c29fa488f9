"""A plan as people read it (``hydra.launcher.plan_only=true``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lora_foundry.config.doing import Doing, most_is_taken
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.plan.beside import cost_of
from lora_foundry.launch.plan.budget import GIB, Budget
from lora_foundry.launch.plan.clock import BASIS, Basis, in_words
from lora_foundry.launch.plan.packing import Plan
from lora_foundry.launch.screen.live import PatientConsole
from lora_foundry.launch.screen.table import plain

_SHOWN = 4  # packs that are named in a line


def print_plan(
    console: Console, plan: Plan, jobs: Mapping[int, JobConfig], names: Mapping[int, str], budget: Budget, basis: Basis
) -> None:
    """Slots, packs, predicted memory against the budget, predicted time, and why jobs were kept apart."""
    for slot in budget.slots:
        usable = "" if slot.memory is None else f", {slot.memory / GIB:.1f} GiB to use"
        threads = "" if slot.threads is None else f", {slot.threads} {'threads' if slot.threads > 1 else 'thread'}"
        plain(console, f"Slot {slot.name}: {slot.about or slot.device}{usable}{threads}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("pack", "slot", "jobs", "rows", "GiB", "of", "time", "members"):
        table.add_column(head, justify="left" if head in ("pack", "slot", "members") else "right", overflow="fold")
    others: dict[Doing, list[str]] = {}
    for pack, seconds, place in zip(plan.packs, plan.seconds, plan.slots, strict=True):
        configs = [jobs[number] for number in pack.jobs]
        peak, room = budget.peak(configs), budget.of(configs[0])
        over = peak is not None and room is not None and peak.size > room
        of_step = peak is None or peak.doing == "step"
        if peak is not None and not of_step:
            others.setdefault(peak.doing, []).append(pack.name)
        table.add_row(
            pack.name,
            budget.slots[place].name,
            str(len(pack.jobs)),
            str(pack.rows),
            Text("?" if peak is None else f"{peak.size / GIB:.2f}", "yellow" if over else ""),
            "" if room is None else f"{room / GIB:.2f}",
            in_words(seconds),
            ", ".join(names[number] for number in pack.jobs)
            + (" (takes fewer rows a forward)" if over and of_step else ""),
        )
    console.print(table)
    for doing, packs in others.items():
        plain(console, f"GiB of {_shown(packs)}: {most_is_taken(doing)}.")
    plain(console, f"All over in about {in_words(plan.ends_s)}: {BASIS[basis]}.")
    if cost := cost_of(jobs.values(), budget.forecast.steps, sum(plan.seconds)):
        plain(console, str(cost))
    for reason in plan.reasons:
        plain(console, reason)
    plain(console, "Nothing was started (hydra.launcher.plan_only=true).")


def _shown(packs: Sequence[str]) -> str:
    more = len(packs) - _SHOWN
    return ", ".join(packs[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def say(lines: Sequence[str]) -> None:
    """Tell the user without starting anything."""
    console = PatientConsole(highlight=False)
    for line in lines:
        plain(console, line)
