"""Samplers of Optuna that suggest nothing twice, in numbers with as many digits as adapters tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from lora_foundry.search.space import rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_foundry.search.space import Space

_TRIES = 20


class Unrepeated(BaseSampler):
    """What another sampler suggests, over the whole space at once, and never what a trial has already.

    Where that one keeps to what there is already, the first combination that there is not is taken.

    Args:
        inner: Suggests.
        space: What is searched.
    """

    def __init__(self, inner: BaseSampler, space: Space) -> None:
        self._inner = inner
        self._space = space

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return self._space.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        fixed = fixed_of(trial)
        taken = self._taken(study, trial)
        for _ in range(_TRIES):
            values = self._suggested(study, trial, search_space)
            if self._space.id_of({**values, **fixed}) not in taken:
                return values
        if set(fixed) >= set(search_space):
            return {}
        for values in self._space.combinations():
            if self._space.id_of({**values, **fixed}) not in taken:
                return dict(values)
        return values

    def _suggested(self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        known = self._inner.infer_relative_search_space(study, trial)
        values = self._inner.sample_relative(study, trial, known) if known else {}
        for key, distribution in space.items():
            if key not in values:
                values[key] = self._inner.sample_independent(study, trial, key, distribution)
        return {key: _short(value, space[key]) for key, value in values.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # as Optuna has it
        value = self._inner.sample_independent(study, trial, param_name, param_distribution)
        return _short(value, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._inner.after_trial(study, trial, state, values)

    def _taken(self, study: Study, trial: FrozenTrial) -> set[str]:
        return {self._space.id_of(one.params) for one in study.get_trials(deepcopy=False) if one.number != trial.number}


class InOrder(BaseSampler):
    """Every combination of a space, in order: those that there are already :class:`Unrepeated` passes over.

    Args:
        space: Of lists and ranges.
    """

    def __init__(self, space: Space) -> None:
        self._rows = list(space.combinations())
        self._next = 0

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return {}

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        taken = {
            tuple(sorted(one.params.items(), key=str))
            for one in study.get_trials(deepcopy=False)
            if one.number != trial.number
        }
        while self._next < len(self._rows) - 1 and tuple(sorted(self._rows[self._next].items(), key=str)) in taken:
            self._next += 1

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:  # noqa: ANN401  # as Optuna has it
        return self._rows[self._next][param_name]


def fixed_of(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial was given that was put in the queue (``Study.enqueue_trial``)."""
    return dict(trial.system_attrs.get("fixed_params", {}))


def _short(value: Any, distribution: BaseDistribution) -> Any:  # noqa: ANN401
    if isinstance(distribution, FloatDistribution):
        return min(max(rounded(value), distribution.low), distribution.high)
    return value
