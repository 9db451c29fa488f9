"""A plan that is shown instead of trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_foundry.config.launcher import Settings
from lora_foundry.config.warned import told
from lora_foundry.launch.farm.ground import Ground
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.launch.farm.saying import noted
from lora_foundry.launch.points.names import Names
from lora_foundry.launch.points.point import Point, on_device
from lora_foundry.launch.points.preflight import Asked, remarked
from lora_foundry.launch.screen.live import PatientConsole
from lora_foundry.launch.screen.planboard import print_plan, say


def show_plan(points: Sequence[Point], settings: Settings, outside: Outside, naming: Names) -> None:
    """Print what would be done; nothing is created.

    Raises:
        SweepError: When the devices that were asked for are not there, or none has the memory for a job.
    """
    ground = Ground.of(settings, [point.config for point in points], outside.forecast)
    points = on_device(points, ground.precision)
    configs = {point.index: point.config for point in points}
    plan, basis = ground.plan(configs)
    names = naming.name(list(configs.values()), [point.overrides() for point in points]).names
    numbered = dict(zip(configs, names, strict=True))
    print_plan(PatientConsole(highlight=False), plan, configs, numbered, ground.budget, basis)
    remarks = remarked({n: Asked(config=config) for n, config in configs.items()}, outside.looks, Path.cwd())
    warned = {name: (*one.warnings, *remarks[one.index]) for name, one in zip(names, points, strict=True)}
    say([*noted(points), *told(warned), *ground.left_out])
