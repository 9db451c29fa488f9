"""What earlier sweeps found out, as trials of a new search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.points.names import show_value
from lora_foundry.launch.records.finding import NotFoundError, find
from lora_foundry.launch.records.reading import read_results
from lora_foundry.launch.records.stored_jobs import read_stored_config
from lora_foundry.search.search import completed
from lora_foundry.search.watch import COMPARED

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from lora_foundry.config.schema import JobConfig
    from lora_foundry.search.space import Space

_ROOT = Path("multirun")
_SAME = (
    *("model.name", "model.path", "data.path", "data.val_path", "data.folds", "data.fold"),
    *("trainer.max_steps", "trainer.epochs"),
)


def learned(what: str | None, space: Space, config: JobConfig, objective: Sequence[str]) -> list[FrozenTrial]:
    """Finished jobs of a sweep whose base, data and length are those of the search, as completed trials.

    Args:
        what: A sweep's folder, id or name; null learns from none.
        space: What is searched; a job outside it is passed over.
        config: Of any trial.
        objective: What is searched for.

    Raises:
        SweepError: When there is no such sweep, or no job of it tells something of this search.
    """
    if what is None:
        return []
    where = f"hydra.sweeper.warm_start: {what}"
    if tuple(objective) != (COMPARED,):
        raise SweepError([f"{where}: finished jobs have a number for {COMPARED} alone; it is {', '.join(objective)}"])
    try:
        folder, _ = find(what, _ROOT)
    except NotFoundError as error:
        raise SweepError([f"{where}: {error}"]) from error
    found = []
    for outcome in read_results(folder):
        alone = outcome.score is not None and outcome.lineage is None  # a fork is not what its settings make
        stored = read_stored_config(outcome.dir) if alone else None
        values = None if stored is None else _values(space, stored, config)
        if values is not None and outcome.score is not None:
            found.append(completed(space, values, [outcome.score]))
    if not found:
        raise SweepError(
            [f"{where}: no finished job of it has this base, these data, this length and values inside the space"]
        )
    return found


def _values(space: Space, stored: JobConfig, config: JobConfig) -> dict[str, Any] | None:
    """The values of a job in the space; None where it is about something else."""
    for key in _SAME:
        searched = any(one.key == key for one in space.dimensions)
        if not searched and show_value(stored, key, None) != show_value(config, key, None):
            return None
    given = {one.key: show_value(stored, one.key, None) for one in space.dimensions}
    try:
        return space.of_words(given, "warm_start")
    except SweepError:
        return None
