"""Which noise levels are trained and judged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch


def uniform_timestep(key: int, n_train: int) -> int:
    """A timestep drawn evenly from ``0 .. n_train - 1``, a function of ``key`` alone.

    Args:
        key: Seed from :func:`lora_foundry.config.streams.stream_key`.
        n_train: Number of training timesteps.
    """
    generator = torch.Generator(device="cpu").manual_seed(key)
    return int(torch.randint(0, n_train, (), generator=generator))


def stratified_timesteps(count: int, n_train: int) -> list[int]:
    """The mid-points of ``count`` equal bins of ``0 .. n_train - 1``, ascending.

    A loss averaged over them stands for all noise levels with no luck in it, so two runs are compared on the
    same ground.

    Raises:
        ValueError: When there are fewer timesteps than bins.
    """
    if not 1 <= count <= n_train:
        msg = f"stratified timesteps: got {count} bins, allowed is 1 to {n_train} (the base's timesteps)"
        raise ValueError(msg)
    return [(2 * i + 1) * n_train // (2 * count) for i in range(count)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """The timesteps ``low <= t < high``."""

    low: int
    high: int

    @property
    def label(self) -> str:
        """As it stands in a metric's name: ``t000_250``."""
        return f"t{self.low:03d}_{self.high:03d}"

    def holds(self, timestep: int) -> bool:
        """Whether ``timestep`` lies in the band."""
        return self.low <= timestep < self.high


def bands(n_train: int, count: int = 4) -> list[Band]:
    """``count`` bands that cover ``0 .. n_train - 1`` without gap or overlap, from little to much noise.

    Raises:
        ValueError: When there are fewer timesteps than bands.
    """
    if not 1 <= count <= n_train:
        msg = f"timestep bands: got {count}, allowed is 1 to {n_train} (the base's timesteps)"
        raise ValueError(msg)
    edges = [i * n_train // count for i in range(count + 1)]
    return [Band(low=low, high=high) for low, high in pairwise(edges)]
