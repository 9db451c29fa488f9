"""What other rooms do for a sweep, which this one does not import: commands and plugins hand it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.launcher import Settings
from lora_foundry.launch.farm.news import Listener
from lora_foundry.launch.plan.budget import Forecast, NoForecast
from lora_foundry.launch.points.preflight import Looks
from lora_foundry.launch.records.lengthening import Rate
from lora_foundry.launch.records.unchanged import DataCheck
from lora_foundry.wire.outcomes import JobOutcome

if TYPE_CHECKING:
    from lora_foundry.launch.farm.farm import Farm

Finish = Callable[[Path, list[JobOutcome]], Path | None]
"""Draws a sweep's picture from its folder and outcomes; None where there is nothing to show."""

Report = Callable[[Path], Path]
"""Writes the page of a sweep that has ended into its folder, and says where."""


Watch = Callable[[Settings, "Farm"], Listener | None]
"""Who ends jobs of a farm early that are not worth their place, as its settings say; None where they say nothing."""


def unwatched(settings: Settings, farm: Farm) -> Listener | None:  # noqa: ARG001
    """Nobody."""
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outside:
    """Other rooms, as the farm sees them.

    Attributes:
        finish: Draws the picture at the end.
        report: Writes the page at the end; None writes none.
        forecast: Says what packs will take.
        changed: Looks at the data of jobs that have begun; None compares their configurations alone.
        looks: Look at what jobs name before anything is made.
        rate: Tells the learning rate of jobs; None leaves that out.
        watch: Says who ends jobs of a farm early that nobody else listens to.
    """

    finish: Finish
    report: Report | None = None
    forecast: Forecast = field(default_factory=NoForecast)
    changed: DataCheck | None = None
    looks: Looks = field(default_factory=Looks)
    rate: Rate | None = None
    watch: Watch = unwatched
