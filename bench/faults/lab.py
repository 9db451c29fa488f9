"""Where faults are tried: one MLflow store and one cache for all sweeps, and undisturbed sweeps to compare with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from bench.faults.checks import check_undisturbed
from bench.faults.sweeps import RealSweep, Recipe


class Lab:
    """Makes sweeps in a folder of its own.

    Args:
        root: An empty folder.
        popen: Starts launchers and servers, as :class:`subprocess.Popen` does.
    """

    def __init__(self, root: Path, popen: type[subprocess.Popen[Any]] = subprocess.Popen) -> None:
        self.root = root
        self.popen = popen
        self.tracking = root / "mlruns"
        self.cache = root / "cache"
        self.database = self.tracking / "mlflow.db"
        self._references: dict[Recipe, RealSweep] = {}
        self._made: list[RealSweep] = []

    def sweep(self, recipe: Recipe, name: str, *words: str, cache: Path | None = None) -> RealSweep:
        """A sweep that is not started; later ``words`` win over the recipe's."""
        folder = self.root / "sweeps" / f"{len(self._made):03d}-{name}"
        folder.parent.mkdir(exist_ok=True)
        places = [f"tracking.root={self.tracking}", f"data.cache_dir={cache or self.cache}"]
        made = RealSweep(folder, recipe, [*places, *words], self.popen)
        self._made.append(made)
        return made

    def reference(self, recipe: Recipe) -> RealSweep:
        """The same sweep (of a search, the grid), undisturbed; run at the first question."""
        recipe = recipe.like or recipe
        if recipe not in self._references:
            sweep = self.sweep(recipe, "undisturbed").start()
            sweep.ends(0)
            check_undisturbed(sweep, self.database)
            self._references[recipe] = sweep
        return self._references[recipe]

    def clean_up(self) -> None:
        """End every process that is left."""
        for sweep in self._made:
            sweep.clean_up()
