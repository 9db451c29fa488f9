"""What the sweeper's configuration says (``hydra.sweeper.*``): a grid's, and with a sampler a search's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from lora_foundry.config.bounds import FORM, Bound, bound_of
from lora_foundry.config.choices import SEARCHERS
from lora_foundry.config.errors import SweepError
from lora_foundry.config.parse import nearest

DIRECTIONS = ("minimize", "maximize")
PBT = "pbt"
"""The sampler that is none: a population trains, and its worst members begin anew where its best ones are."""
MUTATIONS = ("factors", "resample")
_OF_SEARCHES = (
    *("n_trials", "hours", "samples", "n_jobs", "constraints", "conditions", "enqueue"),
    *("warm_start", "storage", "study"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PbtOptions:
    """How a population trains (``hydra.sweeper.pbt.*``; Jaderberg et al. 2017, arXiv:1711.09846).

    Attributes:
        population: How many members train together.
        every: Samples seen between two times at which the worst begin anew; null is each validation.
        quantile: Share of the members that do, and of those whose place in training they take over.
        factors: A number is multiplied by one of these, and stays within its space.
        mutate: Key to ``factors``, or ``resample`` for another value of its space; by itself numbers of an interval
            take factors, and what is listed another value.
    """

    population: int = 8
    every: int | None = None
    quantile: float = 0.25
    factors: tuple[float, ...] = (0.8, 1.25)
    mutate: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, object]:
        """As a configuration has them."""
        return {**asdict(self), "factors": [*self.factors], "mutate": dict(self.mutate)}

    @classmethod
    def of(cls, options: Mapping[str, object]) -> PbtOptions:
        """From a configuration's plain values.

        Raises:
            SweepError: With a line for each key that there is not, or value that cannot be.
        """
        known = [one.name for one in fields(cls)]
        problems = [
            f"hydra.sweeper.pbt.{key}: no such option{nearest(key, known)}; there are {', '.join(known)}"
            for key in options
            if key not in known
        ]
        given: dict[str, Any] = {key: value for key, value in options.items() if key in known}
        problems += [
            f"hydra.sweeper.pbt.{key}: got {value!r}, allowed is {_PBT[key][1]}"
            for key, value in given.items()
            if not _PBT[key][0](value)
        ]
        if problems:
            raise SweepError(problems)
        return cls(**{**given, **({"factors": tuple(given["factors"])} if "factors" in given else {})})


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """Options of the sweeper; its fields are also those of Hydra's node (in ``hydra_plugins/foundry``).

    Attributes:
        params: Key to its values or its space in Hydra's override grammar; the command line comes after it.
        sampler: What suggests the next trial: a file of :mod:`lora_foundry.search.samplers` (``hydra/sweeper=optuna``
            says tpe); null is a grid, which has nothing of the rest.
        seed: Of the sampler; null is another one every time.
        n_trials: How many trials there are in all; null ends by another budget.
        hours: How long the search may take; no trial is begun that cannot end in time.
        samples: How many samples all trials may see together.
        n_jobs: Trials at a time; null fills the slots.
        objective: Metrics to optimize, one or several.
        direction: ``minimize`` or ``maximize``, for each of them.
        constraints: Bounds on metrics (``val/drift<=0.05``) that a trial has to keep to; others are none to keep, and
            the sampler leaves their surroundings.
        conditions: Key to when it is searched: ``optimizer.options.d_coef: optimizer=prodigy``.
        enqueue: Trials to begin with, each a mapping of keys to values; what is left out is suggested.
        warm_start: A sweep's folder, id or name, whose finished jobs are learned from.
        storage: Where the study is kept, as Optuna writes it; null is ``study.journal`` in the sweep's folder.
        study: The study's name; null is the sweep's id.
        pbt: How a population trains (``sampler: pbt``), see :class:`PbtOptions`.
    """

    params: Mapping[str, object] = field(default_factory=dict)
    sampler: str | None = None
    seed: int | None = 0
    n_trials: int | None = 20
    hours: float | None = None
    samples: int | None = None
    n_jobs: int | None = None
    objective: tuple[str, ...] = ("val/loss_rel",)
    direction: tuple[str, ...] = ("minimize",)
    constraints: tuple[str, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    enqueue: tuple[Mapping[str, object], ...] = ()
    warm_start: str | None = None
    storage: str | None = None
    study: str | None = None
    pbt: Mapping[str, object] = field(default_factory=lambda: PbtOptions().plain())

    @classmethod
    def of(cls, options: Mapping[str, object]) -> SearchOptions:
        """From a configuration's plain values; one text stands for a list of one.

        Raises:
            SweepError: With a line for each value that is of another kind.
        """
        known = {one.name for one in fields(cls)}
        given: dict[str, Any] = {key: _plain(key, value) for key, value in options.items() if key in known}
        problems = [
            f"hydra.sweeper.{key}: got {options[key]!r}, allowed is {allowed}"
            for key, (is_sound, allowed) in _KINDS.items()
            if key in given and not is_sound(given[key])
        ]
        if problems:
            raise SweepError(problems)
        return cls(**given)

    def check_grid(self) -> None:
        """Refuse what is a search's where nothing is searched.

        Raises:
            SweepError: With a line for each such option.
        """
        default = SearchOptions()
        given = [one.name for one in fields(self) if getattr(self, one.name) != getattr(default, one.name)]
        if wrong := [name for name in given if name != "params"]:
            raise SweepError(
                [f"hydra.sweeper.{name}: is a search's; write hydra/sweeper=optuna to search" for name in wrong]
            )

    def check(self) -> None:
        """Refuse what cannot work in a search.

        Raises:
            SweepError: With a line for each wrong value.
        """
        if self.sampler == PBT:
            self._check_population()
            return
        samplers = [*SEARCHERS.names(), PBT]
        other = nearest(str(self.sampler), samplers)
        wrong = [
            (self.sampler not in samplers, "sampler", f"one of {', '.join(samplers)}{other}"),
            (self.n_trials is not None and self.n_trials < 1, "n_trials", "at least 1, or null for no such limit"),
            (self.hours is not None and self.hours <= 0, "hours", "more than 0, or null for no such limit"),
            (self.samples is not None and self.samples < 1, "samples", "at least 1, or null for no such limit"),
            (self.n_jobs is not None and self.n_jobs < 1, "n_jobs", "at least 1, or null to fill the slots"),
            (not self.objective, "objective", "the name of a metric, such as val/loss_rel, or a list of some"),
            (bool(set(self.direction).difference(DIRECTIONS)), "direction", " or ".join(DIRECTIONS)),
        ]
        problems = [
            f"hydra.sweeper.{name}: got {getattr(self, name)!r}, allowed is {allowed}"
            for bad, name, allowed in wrong
            if bad
        ]
        problems += [
            f"hydra.sweeper.constraints: got {text!r}, allowed is {FORM}"
            for text in self.constraints
            if bound_of(text) is None
        ]
        if len(self.direction) not in (1, len(self.objective)):
            problems.append(
                f"hydra.sweeper.direction: got {len(self.direction)} for {len(self.objective)} objectives; "
                "give one for all, or one for each"
            )
        if PbtOptions.of(self.pbt) != PbtOptions():
            problems.append(f"hydra.sweeper.pbt: is a population's; write hydra/sweeper={PBT} to train one")
        if self.n_trials is None and self.hours is None and self.samples is None:
            problems.append(
                "hydra.sweeper: n_trials, hours and samples are all null, so that the search had no end; give one"
            )
        if problems:
            raise SweepError(problems)

    def _check_population(self) -> None:
        """The options of Optuna's searches say nothing to a population."""
        default = SearchOptions()
        given = [name for name in _OF_SEARCHES if getattr(self, name) != getattr(default, name)]
        problems = [f"hydra.sweeper.{name}: is none of sampler=pbt's; leave it out" for name in given]
        if len(self.objective) != 1 or len(self.direction) != 1 or set(self.direction).difference(DIRECTIONS):
            problems.append(
                f"hydra.sweeper.objective: got {', '.join(self.objective)} ({', '.join(self.direction)}), allowed is "
                "one metric of a validation, to minimize or to maximize"
            )
        try:
            PbtOptions.of(self.pbt)
        except SweepError as error:
            problems += error.problems
        if problems:
            raise SweepError(problems)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The constraints, which were checked."""
        return tuple(bound for text in self.constraints if (bound := bound_of(text)) is not None)

    @property
    def directions(self) -> tuple[str, ...]:
        """One for each objective."""
        return self.direction * len(self.objective) if len(self.direction) == 1 else self.direction


def _is(*kinds: type) -> Any:  # noqa: ANN401
    return lambda value: value is None or (isinstance(value, kinds) and not isinstance(value, bool))


def _all(kind: type) -> Any:  # noqa: ANN401
    return lambda value: isinstance(value, tuple) and all(isinstance(one, kind) for one in value)


_KINDS: dict[str, tuple[Any, str]] = {
    "params": (lambda value: isinstance(value, Mapping), "a mapping of keys to spaces"),
    "sampler": (_is(str), "a sampler's name, or null for a grid"),
    "seed": (_is(int), "a whole number, or null"),
    "n_trials": (_is(int), "a whole number, or null"),
    "hours": (_is(int, float), "a number, or null"),
    "samples": (_is(int), "a whole number, or null"),
    "n_jobs": (_is(int), "a whole number, or null"),
    "objective": (_all(str), "the name of a metric, or a list of some"),
    "direction": (_all(str), "minimize or maximize, or a list of some"),
    "constraints": (_all(str), f"{FORM}, or a list of such"),
    "conditions": (
        lambda value: isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values()),
        "a mapping of keys to key=value",
    ),
    "enqueue": (_all(Mapping), "a list of mappings of keys to values"),
    "warm_start": (_is(str), "a sweep's folder, id or name"),
    "storage": (_is(str), "an address such as postgresql+psycopg://user@host/base or sqlite:////path/file.db"),
    "study": (_is(str), "a name"),
    "pbt": (lambda value: isinstance(value, Mapping), "a mapping of its options"),
}


def _number(value: object, kind: Any = (int, float)) -> bool:  # noqa: ANN401
    return isinstance(value, kind) and not isinstance(value, bool)


_PBT: dict[str, tuple[Any, str]] = {
    "population": (lambda value: _number(value, int) and value > 1, "a whole number, at least 2"),
    "every": (
        lambda value: value is None or (_number(value, int) and value > 0),
        "samples, at least 1, or null for each validation",
    ),
    "quantile": (lambda value: _number(value) and 0 < value <= 0.5, "a share above 0, at most 0.5"),  # noqa: PLR2004
    "factors": (
        lambda value: (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and len(value) > 0
            and all(_number(one) and one > 0 for one in value)
        ),
        "a list of numbers above 0, such as [0.8,1.25]",
    ),
    "mutate": (
        lambda value: isinstance(value, Mapping) and all(one in MUTATIONS for one in value.values()),
        f"a mapping of keys to {' or '.join(MUTATIONS)}",
    ),
}


def _plain(key: str, value: object) -> object:
    if key in ("objective", "direction", "constraints", "enqueue"):
        if value is None:
            return ()
        return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    return {} if value is None and key in ("params", "conditions", "pbt") else value
