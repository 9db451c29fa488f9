"""What the facades in ``hydra_plugins/`` delegate to: Hydra's launch and sweep contracts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from src.config.schema import TRAINED_FAMILIES, TrackingConfig
from src.launch.budget import Forecast, NoForecast
from src.launch.engines import ENGINES
from src.launch.folders import refuse_taken
from src.launch.outcome import FAILED, OUTCOME, WRONG_INPUT
from src.launch.points import Overrides, Point, SweepError, all_sound, compose_points
from src.launch.results import JobOutcome
from src.launch.resume import find_resumed
from src.launch.settings import Settings
from src.launch.sweep import Finish, run_resumed, run_sweep, show_plan


class JobFailedError(RuntimeError):
    """A job that did not finish; the message is its error."""


class Launching:
    """One sweep's launches; keeps composed points, so that checking and launching compose once."""

    def __init__(
        self,
        loader: ConfigLoader,
        master: DictConfig,
        settings: Settings,
        finish: Finish,
        forecast: Forecast | None = None,
    ) -> None:
        self._loader = loader
        self._master = master
        self._settings = settings
        self._finish = finish
        self._forecast: Forecast = forecast or NoForecast()
        self._checked: dict[tuple[int, tuple[str, ...]], Point] = {}
        self._begun = False

    def check(self, batch: Sequence[Overrides], first: int) -> None:
        """Compose and check every point; nothing is created.

        Raises:
            SweepError: With everything that is wrong with any point.
        """
        self._settings.check(tuple(ENGINES))
        found = compose_points(self._loader, self._master, batch, first)
        points = all_sound(found, dict(enumerate(batch, start=first)))
        if any(point.config.resume is not None for point in points) and len(points) > 1:
            raise SweepError(["resume: one job is resumed at a time"])
        _refuse_untrained(points)
        _check_store(points[0].config.tracking)
        for point in points:
            if point.config.resume is not None:
                find_resumed(point.config.resume, _tracking(point))
            else:
                refuse_taken(Path(str(self._master.hydra.sweep.dir)), [point], begun=self._begun)
            self._checked[(point.index, point.words)] = point

    def launch(self, batch: Sequence[Overrides], first: int) -> list[JobReturn]:
        """Train the batch; one JobReturn for each override list, in order, whatever happened to it."""
        found: dict[int, Point | SweepError] = {}
        for index, words in enumerate(batch, start=first):
            known = self._checked.get((index, tuple(words)))
            found |= {index: known} if known else compose_points(self._loader, self._master, [words], index)
        points = [one for one in found.values() if isinstance(one, Point)]
        outcomes: dict[int, JobOutcome] = {}
        try:
            if self._settings.plan_only:
                show_plan(points, self._settings, self._forecast)
                return []
            outcomes = {outcome.index: outcome for outcome in self._run(points)} if points else {}
        except SweepError as error:
            report(error)
            OUTCOME.worsen(WRONG_INPUT)
            found |= dict.fromkeys(found, error)
        return [self._returned(one, outcomes, words) for one, words in zip(found.values(), batch, strict=True)]

    def _run(self, points: list[Point]) -> list[JobOutcome]:
        resume = points[0].config.resume
        if resume is not None:
            resumed = find_resumed(resume, _tracking(points[0]))
            outcome = run_resumed(resumed, self._settings, self._finish, forecast=self._forecast)[0]
            return [_renumbered(outcome, points[0].index)]
        folder = Path(str(self._master.hydra.sweep.dir))
        begun, self._begun = self._begun, True
        return run_sweep(
            points, folder, self._token(), self._settings, self._finish, forecast=self._forecast, begun=begun
        )

    def _token(self) -> str:
        """The ``sweep_id`` in the folder's name, or a new one where the folder is the user's own."""
        holder = OmegaConf.create({"id": "${sweep_id:}"})
        OmegaConf.copy_cache(from_config=self._master, to_config=holder)
        return str(holder.id)

    def _returned(self, one: Point | SweepError, outcomes: Mapping[int, JobOutcome], words: Overrides) -> JobReturn:
        ret = JobReturn(overrides=list(words), working_dir=str(Path.cwd()), task_name=self._master.hydra.job.name)
        if isinstance(one, SweepError):
            OUTCOME.worsen(FAILED)
            ret.status, ret.return_value = JobStatus.FAILED, one
            return ret
        outcome = outcomes[one.index]
        ret.cfg, ret.hydra_cfg = one.cfg, one.hydra_cfg
        if outcome.state == "FINISHED":
            ret.status, ret.return_value = JobStatus.COMPLETED, outcome.number("val_loss")
        else:
            ret.status = JobStatus.FAILED
            ret.return_value = JobFailedError(
                f"{outcome.name} is {outcome.state}: {outcome.error or 'no reason given'}"
            )
        return ret


def report(error: SweepError) -> None:
    """Show on stderr why nothing was started."""
    sys.stderr.write(f"{error}\n")


def _refuse_untrained(points: Sequence[Point]) -> None:
    problems = [
        f"model.family: got {point.config.model.family}, which can be sized (python -m src.predict "
        f"model={point.config.model.name}) but not trained yet; allowed is one of {', '.join(TRAINED_FAMILIES)}"
        for point in points
        if point.config.model.family not in TRAINED_FAMILIES
    ]
    if problems:
        raise SweepError(list(dict.fromkeys(problems)))


def _check_store(tracking: TrackingConfig) -> None:
    from src.tracking.errors import TrackingError  # noqa: PLC0415 - needed at launch only
    from src.tracking.trackfile import store_of  # noqa: PLC0415 - needed at launch only

    try:
        store_of(tracking)
    except TrackingError as error:
        raise SweepError([str(error)]) from error


def _tracking(point: Point) -> TrackingConfig | None:
    """Where the user wants a resumed job recorded, when the command line says so."""
    said = any(key.split(".")[0] == "tracking" for key in point.overrides())
    return point.config.tracking if said else None


def _renumbered(outcome: JobOutcome, index: int) -> JobOutcome:
    return replace(outcome, index=index)
