"""What may be expected of jobs before they are offered: where they would train, how many at a time and for how long."""

from __future__ import annotations

from collections.abc import Sequence

from lora_foundry.config.besides import samples_of
from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.farm.ground import Ground
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.launch.plan.sizes import MOST_MEMBERS
from lora_foundry.launch.points.point import Point, on_device


class Prospects:
    """Of one farm, which finds out once what it stands on.

    Args:
        settings: What the launcher's configuration says.
        outside: What other rooms do for it.

    Attributes:
        ground: What was found out; null before the first job.
    """

    def __init__(self, settings: Settings, outside: Outside) -> None:
        self.ground: Ground | None = None
        self._settings = settings
        self._outside = outside

    def grounded(self, configs: Sequence[JobConfig], jobs: int | None = None) -> Ground:
        """What the farm stands on, found out now if it was not yet.

        Args:
            configs: Of jobs that are known.
            jobs: How many the sweep has in all; null where these are all.

        Raises:
            SweepError: When the devices that were asked for are not there.
        """
        if self.ground is None:
            self.ground = Ground.of(self._settings, configs, self._outside.forecast, jobs)
        return self.ground

    def places(self, config: JobConfig) -> int:
        """How many jobs like this one may train at a time.

        Raises:
            SweepError: As :meth:`grounded`.
        """
        slots = len(self.grounded([config]).budget.slots)
        return slots * (self._settings.pack_size or MOST_MEMBERS)

    def foreseen_s(self, points: Sequence[Point]) -> float:
        """Seconds until all of ``points`` would have ended, were they begun now; nothing is made.

        Raises:
            SweepError: As :meth:`grounded`, and when no slot has the memory for one.
        """
        ground = self.grounded([point.config for point in points])
        points = on_device(points, ground.precision)
        return ground.plan({point.index: point.config for point in points})[0].ends_s

    def samples_of(self, config: JobConfig) -> int | None:
        """Samples that a job sees in all; null while nobody can tell."""
        steps = self._outside.forecast.steps(config)
        return None if steps is None else samples_of(config, steps)
