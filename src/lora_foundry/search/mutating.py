"""The settings of a population: those that it begins with, spread over the space, and those of a fork."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lora_foundry.config.streams import stream_key
from lora_foundry.search.space import rounded

if TYPE_CHECKING:
    from lora_foundry.config.search import PbtOptions
    from lora_foundry.search.space import Dimension, Space

MUTABLE = ("optimizer.lr", "lora.dropout", "data.caption_dropout", "trainer.max_grad_norm")
"""Keys that a fork may have otherwise than the member that it goes on from; and all of ``objective``, the weighting."""
_WHY = {
    "lora.rank": "its matrices have that shape",
    "lora.target_modules": "it has no matrices in other layers",
    "lora.alpha": "what it computes would jump with its scale",
    "lora.kind": "its matrices are of that kind",
    "data.batch_size": "its steps are counted in samples of that batch",
    "trainer.accumulate": "its steps are counted in samples of that batch",
    "trainer.max_steps": "all members train for as long",
    "trainer.epochs": "all members train for as long",
    "optimizer": "its state is that optimizer's",
    "optimizer.name": "its state is that optimizer's",
    "model": "its weights belong to that base",
    "data": "it is judged on those images",
    "seed": "the place in its order of samples is that seed's",
}
_PLACES = 2**63


def is_mutable(key: str) -> bool:
    """Whether a member that trains may go on with another value of ``key``."""
    return key in MUTABLE or key.startswith("objective.")


def why_not(key: str) -> str:
    """Why it may not, for people."""
    own = _WHY.get(key) or _WHY.get(key.split(".", maxsplit=1)[0])
    return own or "what was trained so far was trained with the value that it has"


class Mutation:
    """Draws settings; what is drawn depends on the seed and the job's number alone.

    Args:
        space: What is mutated.
        options: How.
        seed: Of what is drawn.
    """

    def __init__(self, space: Space, options: PbtOptions, seed: int) -> None:
        self._space = space
        self._options = options
        self._seed = seed

    def first(self) -> list[dict[str, Any]]:
        """Settings of the first members: of each key as many equal parts of its space, each drawn from once.

        A Latin hypercube: McKay, Beckman & Conover, Technometrics 21 (1979).
        """
        count = self._options.population
        rows: list[dict[str, Any]] = [{} for _ in range(count)]
        for one in self._space.dimensions:
            order = sorted(range(count), key=lambda place: stream_key(self._seed, "part", one.key, place))
            for place, part in enumerate(order):
                share = (part + self._share("first", one.key, place)) / count
                rows[place][one.key] = _at(one, share)
        return rows

    def of(self, values: Mapping[str, Any], job: int) -> dict[str, Any]:
        """Those of a fork.

        Args:
            values: Of the member that it goes on from.
            job: The fork's number.
        """
        return {one.key: self._mutated(one, values[one.key], job) for one in self._space.dimensions}

    def _mutated(self, one: Dimension, value: Any, job: int) -> Any:  # noqa: ANN401
        by_itself = "resample" if one.is_list else "factors"
        share = self._share("mutate", one.key, job)
        if self._options.mutate.get(one.key, by_itself) == "factors" and not one.is_list:
            factors = self._options.factors
            return _within(one, value * factors[min(int(share * len(factors)), len(factors) - 1)])
        listed = one.values
        if listed is None:
            return _at(one, share)
        others = [other for other in listed if other != value] or [value]
        return others[min(int(share * len(others)), len(others) - 1)]

    def _share(self, purpose: str, key: str, number: int) -> float:
        """From 0 to below 1."""
        return stream_key(self._seed, purpose, key, number) / _PLACES


def _at(one: Dimension, share: float) -> Any:  # noqa: ANN401
    """The value at that share of a dimension."""
    made = one.distribution
    listed = one.values
    if isinstance(made, CategoricalDistribution) or (listed is not None and not getattr(made, "log", False)):
        every = list(listed or ())
        return every[min(int(share * len(every)), len(every) - 1)]
    low, high = float(made.low), float(made.high)  # type: ignore[attr-defined]  # an interval's
    log: bool = made.log  # type: ignore[attr-defined]
    value = math.exp(math.log(low) + share * (math.log(high) - math.log(low))) if log else low + share * (high - low)
    return _within(one, value)


def _within(one: Dimension, value: float) -> float | int:
    """The nearest that there is."""
    made = one.distribution
    if isinstance(made, IntDistribution):
        steps = round((min(max(value, made.low), made.high) - made.low) / made.step)
        return made.low + steps * made.step
    if isinstance(made, FloatDistribution) and made.step is not None:
        return rounded(made.low + round((min(max(value, made.low), made.high) - made.low) / made.step) * made.step)
    low, high = made.low, made.high  # type: ignore[attr-defined]
    return min(max(rounded(value), low), high)
