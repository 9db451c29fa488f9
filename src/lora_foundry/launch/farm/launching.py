"""What the facades in ``src/hydra_plugins/`` delegate to: Hydra's launch and sweep contracts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from lora_foundry.config.called import command_line
from lora_foundry.config.errors import SweepError
from lora_foundry.config.families import family_choice, trained_families
from lora_foundry.config.launcher import Settings
from lora_foundry.config.longer import KEYS
from lora_foundry.config.quoting import override
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.launch.farm.again import Again, earlier_sweeps, find_again, unfinished_note
from lora_foundry.launch.farm.farm import Farm
from lora_foundry.launch.farm.left import make_up_for_the_end
from lora_foundry.launch.farm.news import Listener, Reopened
from lora_foundry.launch.farm.outcome import FAILED, OUTCOME, WRONG_INPUT
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.launch.farm.planning import show_plan
from lora_foundry.launch.farm.prepared import ready
from lora_foundry.launch.points.composing import Composer
from lora_foundry.launch.points.folds import refit
from lora_foundry.launch.points.names import Names
from lora_foundry.launch.points.point import Overrides, Point, compose_points, said_once, sound_ones
from lora_foundry.launch.points.preflight import Asked, full_disk, long_names, unready
from lora_foundry.launch.points.spread import declared
from lora_foundry.launch.points.writable import store_problems, sweep_dir_problems
from lora_foundry.launch.records.folders import refuse_taken, typed_line
from lora_foundry.launch.records.leftover import Ready, wait_until_free
from lora_foundry.launch.records.reading import read_results
from lora_foundry.launch.records.record import StoredSweep
from lora_foundry.launch.records.resume import Resumed, find_resumed, find_unfinished
from lora_foundry.launch.screen.planboard import say
from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wire.states import AS_MEANT


class JobFailedError(RuntimeError):
    """A job that did not finish; the message is its error."""


class Launching:
    """One sweep's launches; keeps composed points, so that checking and launching compose once.

    Attributes:
        settings: The launcher's.
    """

    def __init__(
        self,
        loader: ConfigLoader,
        master: DictConfig,
        settings: Settings,
        outside: Outside,
    ) -> None:
        self._loader = loader
        self._master = master
        self.settings = settings
        self._outside = outside
        self._checked: dict[tuple[int, tuple[str, ...]], Point] = {}
        self._again: dict[tuple[int, ...], Again] = {}
        self._composer = Composer(loader, master)
        self._names = Names(_declared(loader, master))
        self._farm: Farm | None = None
        self._id: str | None = None

    def check(self, batch: Sequence[Overrides], first: int) -> None:
        """Compose and check every point, and what the points name; nothing is created.

        Raises:
            SweepError: With everything that is wrong with any point.
        """
        self.settings.check()
        words = dict(enumerate(batch, start=first))
        points, problems = sound_ones(self._composed(batch, first), words)
        resumed = [point for point in points if point.config.resume is not None]
        if resumed and len(words) > 1:
            raise SweepError(["resume: one job is resumed at a time"])
        problems += [*_untrained(points), *self._unfolded(points)]
        if resumed and not problems:
            self._find_resumed(resumed[0])
        elif not resumed:
            problems += self._place_problems(points, words, sound=not problems)
        if problems:
            raise SweepError(problems)
        for point in points:
            self._checked[(point.index, point.words)] = point

    def _unfolded(self, points: Sequence[Point]) -> list[str]:
        """Folds are spread over jobs where a grid's words are, which a search has none of."""
        problems = []
        if any(point.config.data.folds is not None and point.config.data.fold is None for point in points):
            problems.append(
                "data.folds: nobody says which fold (data.fold) a job holds out; folds go with a grid, not with a "
                "search, and data.folds itself cannot be swept"
            )
        if self.settings.pruner != "none" and any(point.config.data.folds is not None for point in points):
            problems.append(
                "hydra.launcher.pruner: each fold is judged on other images, so none is behind; leave it none"
            )
        if self.settings.skip_finished and any(point.config.data.refit for point in points):
            problems.append(
                "data.refit: goes with a sweep of its own; leave hydra.launcher.skip_finished=false, or train the "
                "setting to keep with data.fold=all"
            )
        return problems

    def _composed(self, batch: Sequence[Overrides], first: int) -> dict[int, Point | SweepError]:
        return compose_points(self._loader, self._master, batch, first, self._composer)

    def point(self, words: Overrides, index: int) -> Point:
        """A trial of a search, composed and checked as a point of a grid is.

        What it names was looked at before with trials of the same space (:meth:`check`).

        Raises:
            SweepError: With everything that is wrong with it.
        """
        (one,) = self._composed([words], index).values()
        if isinstance(one, SweepError):
            raise one
        return one

    def opened(self, listener: Listener) -> Farm:
        """The farm of a search, which offers what trains in it; it ends with :meth:`end`."""
        self._farm = Farm(
            self.folder,
            self.settings,
            self._outside,
            sweep_id=self.sweep_id(),
            naming=self._names,
            listener=listener,
        )
        return self._farm

    def reopened(self, listener: Listener) -> Farm:
        """The same of a search that was left.

        Raises:
            SweepError: When it cannot go on.
        """
        left = find_unfinished(self.folder, failed=False, changed=self._outside.changed)
        resumed = ready(left, self._outside.looks) if left.jobs else left
        tell_left_out(resumed.left_out)
        self._names = Names(_declared(self._loader, self._master), (job.name for job in resumed.sweep.jobs))
        search = Reopened(listener=listener, naming=self._names)
        self._farm = Farm.going_on(resumed, self.settings, self._outside, search=search)
        return self._farm

    def _place_problems(self, points: Sequence[Point], words: Mapping[int, Overrides], *, sound: bool) -> list[str]:
        """What cannot be read or written; with an earlier sweep to go on with, what that one left to do counts.

        Args:
            points: Those whose configuration is sound.
            words: Of all points.
            sound: Whether that is all of them.

        Raises:
            SweepError: When an earlier sweep left something that is not what it was.
        """
        again = self._look_back(points) if self.settings.skip_finished and sound else None
        left = points if again is None else again.left(points)
        problems = store_problems(left[0].config.tracking) if left else []
        asked = {point.index: Asked(config=point.config, words=point.words) for point in left}
        found = unready(asked, self._outside.looks, Path.cwd())
        problems += said_once(found, words)
        if sound and left and (again is None or again.whole is None):
            folder = sweep_dir_problems(self.folder) or long_names([point.dir for point in left], self.folder)
            problems += folder or full_disk(self.folder, [point.config for point in left], self._outside.looks)
            if not problems:
                refuse_taken(self.folder, points, begun=self.begun)
        return problems

    def _find_resumed(self, point: Point) -> Resumed:
        """The job that ``resume=`` names, with everything in its place.

        Raises:
            SweepError: When it cannot go on.
        """
        folder, changed = str(point.config.resume), self._outside.changed
        resumed = find_resumed(folder, _tracking(point), changed, self._ready, asked=_length(point))
        return ready(resumed.told_longer(self._outside.rate), self._outside.looks)

    @property
    def begun(self) -> bool:
        """Whether a sweep was made."""
        return self._farm is not None

    @property
    def folder(self) -> Path:
        """The sweep's."""
        return Path(str(self._master.hydra.sweep.dir))

    @property
    def _ready(self) -> Ready | None:
        """A plan waits for nobody."""
        return None if self.settings.plan_only else wait_until_free

    def _earlier(self, unread: list[str] | None = None) -> list[tuple[Path, StoredSweep]]:
        pattern = OmegaConf.to_container(self._master.hydra.sweep, resolve=False)
        return earlier_sweeps(str(dict(pattern)["dir"]), self.folder, unread)  # type: ignore[arg-type]  # a mapping

    def _look_back(self, points: Sequence[Point]) -> Again:
        """What earlier sweeps have of the points; a sweep of this process's own is not one of them.

        Raises:
            SweepError: When something that would be skipped or continued is not what it was.
        """
        key = tuple(point.index for point in points)
        if key not in self._again:
            unread: list[str] = []
            sweeps = [one for one in self._earlier(unread) if not (self.begun and one[0] == self.folder.absolute())]
            again = find_again(points, sweeps, self._outside.changed, typed_line(), self._ready)
            lines = tuple(f"not looked into: {line}" for line in unread)
            self._again[key] = replace(again, notes=(*lines, *again.notes))
        return self._again[key]

    def train(self, batch: Sequence[Overrides], first: int, *, last: bool = False) -> list[JobReturn]:
        """Train the batch; one JobReturn for each override list, in order, whatever happened to it.

        Args:
            batch: Override lists.
            first: The number of the first.
            last: Whether no batch comes after it; else workers stay warm until :meth:`end`.

        Raises:
            KeyboardInterrupt: When this batch or one before was interrupted and is not the last: no more is to come.
        """
        self._end_if_interrupted()
        found: dict[int, Point | SweepError] = {}
        for index, words in enumerate(batch, start=first):
            known = self._checked.get((index, tuple(words)))
            found |= {index: known} if known else self._composed([words], index)
        points = [one for one in found.values() if isinstance(one, Point)]
        outcomes: dict[int, JobOutcome] = {}
        try:
            if self.settings.plan_only:
                self._show_plan(points)
                return []
            outcomes = {one.job: one for one in self._trained(points, last=last)} if points else {}
        except SweepError as error:
            report(error)
            OUTCOME.worsen(WRONG_INPUT)
            found |= dict.fromkeys(found, error)
        return [self._returned(one, outcomes, words) for one, words in zip(found.values(), batch, strict=True)]

    def refit(self, batch: Sequence[Overrides]) -> list[JobReturn]:
        """Train on every image what the folds of ``batch`` say is to be kept, and end; nothing where they do not say.

        Raises:
            KeyboardInterrupt: As :meth:`train`.
        """
        from lora_foundry.judge.verdict import verdict_of  # numpy, which no other start waits for

        outcomes = [self._farm.outcome(number) for number in sorted(self._farm.jobs)] if self._farm is not None else []
        verdict = verdict_of(outcomes)
        if verdict is None:
            say(["No setting has all of its folds, so none is trained on every image (data.refit=true)."])
            self.end()
            return []
        return self.train([refit(batch[verdict.job])], len(batch), last=True)

    def end(self) -> None:
        """No batch comes any more: the farm ends, with its table."""
        if self._farm is not None:
            self._farm.close()
            self._farm.train()

    def ending(self, kind: type[BaseException] | None, *_: object) -> None:
        """The same at the end of a ``with``: an interrupt that came between two batches is one of the sweep."""
        if self._farm is not None and kind is not None and issubclass(kind, KeyboardInterrupt):
            self._farm.stop()
        self.end()

    def _end_if_interrupted(self) -> None:
        if self._farm is not None and self._farm.interrupted:
            raise KeyboardInterrupt

    def _trained(self, points: list[Point], *, last: bool) -> list[JobOutcome]:
        resume = points[0].config.resume
        if resume is not None:
            resumed = self._find_resumed(points[0])
            (outcome,) = Farm.going_on(resumed, self.settings, self._outside).train()
            return [_renumbered(outcome, points[0].index)]
        if self.settings.skip_finished:
            return self._trained_again(points, self._look_back(points), last=last)
        note = None if self.begun else unfinished_note(points, self._earlier())
        return self._trained_anew(points, () if note is None else (note,), last=last)

    def _trained_anew(self, points: Sequence[Point], notes: Sequence[str], *, last: bool) -> list[JobOutcome]:
        farm = self._farm or Farm(
            self.folder, self.settings, self._outside, sweep_id=self.sweep_id(), naming=self._names
        )
        numbers = farm.offer(points, notes)
        self._farm = farm
        if last:
            self.end()
        else:
            farm.drain()
            self._end_if_interrupted()
        return [farm.outcome(number) for number in numbers]

    def _trained_again(self, points: Sequence[Point], again: Again, *, last: bool) -> list[JobOutcome]:
        """Go on in the sweep that has all points, or train in a new one what no earlier one finished."""
        left = again.left(points)
        if not left:
            say([*again.notes, "Nothing is left to train (hydra.launcher.skip_finished=true)."])
        if again.whole is None:
            return [*again.finished.values(), *(self._trained_anew(left, again.notes, last=last) if left else ())]
        tell_left_out(again.whole.damaged)
        if left:
            resumed = again.whole.recorded_in(_tracking(points[0]))
            Farm.going_on(resumed, self.settings, self._outside).train()
        else:
            make_up_for_the_end(again.whole.sweep_dir, self._outside)
        results = {result.job: result for result in read_results(again.whole.sweep_dir)}
        outcomes = [_renumbered(results[job], point) for point, job in again.jobs.items()]
        if any(outcome.state == "FAILED" for outcome in outcomes):
            OUTCOME.worsen(FAILED)
        return outcomes

    def _show_plan(self, points: Sequence[Point]) -> None:
        if points and points[0].config.resume is not None:
            resumed = self._find_resumed(points[0])
            say(resumed.notes)
            points = [replace(points[0], config=resumed.jobs[0].config)]
        resuming = bool(points) and points[0].config.resume is not None
        again = self._look_back(points) if self.settings.skip_finished and not resuming else None
        left = points if again is None else again.left(points)
        say([] if again is None else again.notes)
        if left:
            show_plan(left, self.settings, self._outside, self._names)

    def sweep_id(self) -> str:
        """The new sweep's: of the same moment and token as the folder's name, or new ones where that is the user's."""
        if self._id is None:
            holder = OmegaConf.create({"date": "${now:%Y-%m-%d}", "time": "${now:%H-%M-%S}", "token": "${sweep_id:}"})
            OmegaConf.copy_cache(from_config=self._master, to_config=holder)
            self._id = "-".join(str(part).replace("-", "") for part in (holder.date, holder.time, holder.token))
        return self._id

    def _returned(self, one: Point | SweepError, outcomes: Mapping[int, JobOutcome], words: Overrides) -> JobReturn:
        ret = JobReturn(overrides=list(words), working_dir=str(Path.cwd()), task_name=self._master.hydra.job.name)
        if isinstance(one, SweepError):
            OUTCOME.worsen(FAILED)
            ret.status, ret.return_value = JobStatus.FAILED, one
            return ret
        outcome = outcomes[one.index]
        ret.cfg, ret.hydra_cfg = one.cfg, one.hydra_cfg
        if outcome.state in AS_MEANT:
            ret.status, ret.return_value = JobStatus.COMPLETED, outcome.score
        else:
            ret.status = JobStatus.FAILED
            ret.return_value = JobFailedError(
                f"{outcome.name} is {outcome.state}: {outcome.error or 'no reason given'}"
            )
        return ret


def tell_left_out(lines: Sequence[str]) -> None:
    """Show on stderr which jobs do not go on while others do; the exit code tells, too."""
    if lines:
        sys.stderr.write("".join(f"Left out: {line}\n" for line in lines))
        OUTCOME.worsen(WRONG_INPUT)


def report(error: SweepError) -> None:
    """Show on stderr why nothing was started."""
    sys.stderr.write(f"{error}\n")


def _declared(loader: ConfigLoader, master: DictConfig) -> tuple[str, ...] | None:
    """The keys that the command line and the sweeper's own configuration say are varied."""
    sweeper = OmegaConf.to_container(master.hydra.sweeper, resolve=False)
    params = sweeper.get("params") if isinstance(sweeper, dict) else None
    words = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)
    return declared(loader, params if isinstance(params, dict) else {}, words)  # type: ignore[arg-type]  # texts


def _untrained(points: Sequence[Point]) -> list[str]:
    problems = [
        f"model.family: got {point.config.model.family}, which can be sized "
        f"({command_line('predict', override('model', point.config.model.name))}) but not trained yet; "
        f"allowed is one of {', '.join(trained_families())}"
        for point in points
        if family_choice(point.config.model.family).task is None
    ]
    return list(dict.fromkeys(problems))


def _tracking(point: Point) -> TrackingConfig | None:
    """Where the user wants a resumed job recorded, when the command line says so."""
    said = any(key.split(".")[0] == "tracking" for key in point.overrides())
    return point.config.tracking if said else None


def _length(point: Point) -> dict[str, float | None]:
    """What a resumed job's length is to be, as far as the command line says so."""
    asked = point.overrides().keys() & set(KEYS)
    return {key: getattr(point.config.trainer, key.partition(".")[2]) for key in asked}


def _renumbered(outcome: JobOutcome, index: int) -> JobOutcome:
    return replace(outcome, job=index)
