"""What the launcher's configuration says (``hydra.launcher.*``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lora_foundry.config.choices import ENGINES, PRUNERS, Choice
from lora_foundry.config.errors import SweepError
from lora_foundry.config.parse import nearest

_IONICE = (None, "idle", *range(8))

_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Options of the launcher; its fields are also those of Hydra's node (``hydra_plugins/foundry/pack_launcher.py``).

    Attributes:
        pack_size: Most members of a pack; null for the default rule.
        least_gain: How many times as fast a pack has to be as its halves, tried on its first steps, to be worth it;
            null tries nothing.
        worker_command: The worker's command line; null for ``python -m lora_foundry.worker``.
        engine: What starts workers: a file of :mod:`lora_foundry.launch.machines.engines`.
        devices: Numbers of the GPUs to use, as nvidia-smi counts; null takes all.
        slots: Workers a device; null is one, and on the CPU what :mod:`lora_foundry.launch.machines.workers` says.
        reserve: Share of a device's free memory that packs leave alone.
        stall_s: Seconds without any progress after which a worker is ended and started again.
        max_restarts: How often a job is started again after its worker died.
        backoff_s: Seconds before the first restart of a pack; twice that before the next, a minute at most.
        nice: What is added to the workers' niceness, 0 to 19.
        ionice: How the workers' reads and writes wait for others': ``idle``, 0 (first) to 7 (last), or null.
        pruner: Which jobs end early: a file of :mod:`lora_foundry.search.pruners`; ``none`` ends none.
        prune_on: The metric that it goes by; null is a search's objective, and in a grid ``val/loss_rel``.
        prune_maximize: Whether more of it is better.
        prune_from: Samples before which no job is pruned; null is one validation.
        prune_factor: One job of so many goes on at each rung (asha, hyperband).
        prune_patience: Samples without an improvement after which a job is pruned (patience).
        prune_above: The value beyond which a job is pruned (threshold).
        share: Train beside other sweeps on the same device, instead of waiting until they have ended there.
        report: Write ``report.html`` at the end.
        plan_only: Show the plan and train nothing.
        skip_finished: Go on with an earlier sweep of the same configurations; what it finished is not trained again.
    """

    pack_size: int | None = None
    least_gain: float | None = 1.05
    worker_command: tuple[str, ...] | None = None
    engine: str = "local"
    devices: tuple[int, ...] | None = None
    slots: int | None = None
    reserve: float = 0.2
    stall_s: float = 600.0
    max_restarts: int = 3
    backoff_s: float = 1.0
    nice: int = 0
    ionice: int | str | None = None
    pruner: str = "none"
    prune_on: str | None = None
    prune_maximize: bool = False
    prune_from: int | None = None
    prune_factor: int = 3
    prune_patience: int | None = None
    prune_above: float | None = None
    share: bool = False
    report: bool = True
    plan_only: bool = False
    skip_finished: bool = False

    @property
    def slots_each(self) -> int:
        """Workers a device, one where nothing was said."""
        return self.slots or 1

    def pause_s(self, deaths: int) -> float:
        """Seconds to wait after so many deaths of a pack's workers."""
        return min(_LONGEST_PAUSE_S, self.backoff_s * 2.0 ** (deaths - 1))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """From a configuration's plain values; those of another version that mean nothing here are passed over."""
        known = {field.name for field in fields(cls)}
        given: dict[str, Any] = {key: _plain(value) for key, value in options.items() if key in known}
        return cls(**given)

    def check(self) -> None:
        """Refuse what cannot work, here or with the engine that was chosen.

        Raises:
            SweepError: With a line for each wrong value.
        """
        engines, pruners = ENGINES.names(), PRUNERS.names()
        wrong = [
            (self.pack_size is not None and self.pack_size < 1, "pack_size", "at least 1, or null for the default"),
            (self.least_gain is not None and self.least_gain <= 0, "least_gain", "more than 0, or null for no trial"),
            (self.engine not in engines, "engine", f"one of {', '.join(engines)}{nearest(self.engine, [*engines])}"),
            (self.pruner not in pruners, "pruner", f"one of {', '.join(pruners)}{nearest(self.pruner, [*pruners])}"),
            (self.prune_from is not None and self.prune_from < 1, "prune_from", "at least 1 sample, or null"),
            (self.prune_factor < 2, "prune_factor", "at least 2"),
            (self.prune_patience is not None and self.prune_patience < 1, "prune_patience", "at least 1 sample"),
            (self.slots is not None and self.slots < 1, "slots", "at least 1, or null for the default"),
            (not 0 <= self.reserve < 1, "reserve", "a share from 0 to below 1"),
            (self.stall_s <= 0, "stall_s", "more than 0 seconds"),
            (self.max_restarts < 0, "max_restarts", "0 or more"),
            (self.backoff_s < 0, "backoff_s", "0 or more seconds"),
            (not 0 <= self.nice <= 19, "nice", "0 to 19"),
            (self.ionice not in _IONICE, "ionice", "idle, 0 (first) to 7 (last), or null"),
            (self.devices is not None and not self.devices, "devices", "at least one number, or null for all"),
        ]
        problems = [
            f"hydra.launcher.{name}: got {getattr(self, name)!r}, allowed is {allowed}"
            for bad, name, allowed in wrong
            if bad
        ]
        if not problems:
            problems = ENGINES.load(self.engine, Choice).problems(self)
            problems += PRUNERS.load(self.pruner, Choice).problems(self)
        if problems:
            raise SweepError(problems)


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
