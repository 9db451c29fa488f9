"""What packs will take, as the memory room predicts it, which the launch room does not import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.allowance import cores
from lora_foundry.config.length import known_steps, rows_of, total_steps
from lora_foundry.launch.plan.budget import Peak
from lora_foundry.launch.plan.clock import shape

if TYPE_CHECKING:
    from lora_foundry.config.schema import JobConfig
    from lora_foundry.launch.machines.engine import Slot
    from lora_foundry.launch.plan.clock import Basis
    from lora_foundry.memory.between import Pictures
    from lora_foundry.memory.pace import Rate
    from lora_foundry.memory.paces import Paces
    from lora_foundry.memory.predict import Curve


class TracedForecast:
    """Implements :class:`lora_foundry.launch.plan.budget.Forecast`; what earlier runs were off by corrects it."""

    def __init__(self) -> None:
        self._curves: dict[tuple[JobConfig, str], Curve | None] = {}  # a plan asks for the same jobs again and again
        self._pictures: dict[object, Pictures | None] = {}
        self._factors: dict[tuple[str, str], float] = {}
        self._paces: Paces | None = None
        self._rates: dict[object, Rate] = {}
        self._images: dict[object, int] = {}

    def peak_of(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool, corrected: bool = True) -> Peak | None:
        """See the protocol."""
        from lora_foundry.memory.between import peaks_of
        from lora_foundry.memory.libraries import CPU, on_card

        on_cpu = slot.device == "cpu"
        curves = [self._curve(config, slot, trace=trace) for config in configs]
        known = [curve for curve in curves if curve is not None]
        pictures = self._pictures_of(configs[0], trace=trace)
        if len(known) < len(configs) or pictures is None:
            return None
        threads = (slot.threads or cores()) if on_cpu else None
        step, *others = peaks_of(known, pictures, configs, CPU if on_cpu else on_card(), threads)
        factor = self._factor(configs[0], slot.model) if corrected else 1.0
        other = max(others, key=lambda needs: needs.total)
        return Peak(step.total + int(step.allocated * (factor - 1.0)), other.total, other.doing)

    def step_s(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool) -> tuple[float, Basis] | None:
        """See the protocol: measured, or carried over from what was, or estimated from the base's operations."""
        from lora_foundry.memory.paces import Paces

        if self._paces is None:
            self._paces = Paces(configs[0])
        rows = rows_of(configs)
        estimated = self._estimate(configs, slot) if trace else None
        known = self._paces.step_s(configs[0], slot.model, slot.threads, len(configs), rows, estimated or shape)
        return known or ((estimated(rows), "estimated") if estimated else None)

    def _estimate(self, configs: Sequence[JobConfig], slot: Slot) -> Callable[[float], float] | None:
        """Seconds by rows of a step of so many members, from what the base computes in it; null where it is unknown."""
        from lora_foundry.memory.pace import rate_of, seconds_of_step

        config = configs[0]
        curve = self._curve(config, slot, trace=True)
        if curve is None:
            return None
        key = slot.model, slot.threads, config.trainer.precision
        if key not in self._rates:
            cache = Path(config.data.cache_dir)
            self._rates[key] = rate_of(slot.model, cache, precision=config.trainer.precision, threads=slot.threads)
        rate = self._rates[key]
        return lambda rows: seconds_of_step(curve, round(rows), len(configs), rate)

    def steps(self, config: JobConfig) -> int | None:
        """See the protocol; epochs are counted in the rows that the data lists, which no image is opened for."""
        from lora_foundry.data.listing import trained_on

        if (known := known_steps(config.trainer)) is not None:
            return known
        data = config.data
        key = data.path, data.val_path, data.val_fraction, data.captions, data.repeats, data.follow_links, data.on_bad
        if key not in self._images:
            self._images[key] = trained_on(data)
        return total_steps(config, self._images[key]) if self._images[key] else None

    def _curve(self, config: JobConfig, slot: Slot, *, trace: bool) -> Curve | None:
        from lora_foundry.memory.attention import attention_of
        from lora_foundry.memory.predict import curve_of, is_known
        from lora_foundry.models.protocol import BaseError

        precision = config.trainer.precision
        attention = attention_of(precision, card=slot.device != "cpu", capability=slot.capability)
        key = config, attention
        if key not in self._curves:
            try:
                self._curves[key] = curve_of(config, attention) if trace or is_known(config, attention) else None
            except (BaseError, ValueError):
                self._curves[key] = None  # the worker says what is wrong with this base
        return self._curves[key]

    def _pictures_of(self, config: JobConfig, *, trace: bool) -> Pictures | None:
        from lora_foundry.memory.between import are_known, pictures_of
        from lora_foundry.models.protocol import BaseError

        key = config.model, config.data.resolution, config.data.cache_dir
        if key not in self._pictures:
            try:
                self._pictures[key] = pictures_of(config) if trace or are_known(config) else None
            except (BaseError, ValueError):
                self._pictures[key] = None
        return self._pictures[key]

    def _factor(self, config: JobConfig, model: str) -> float:
        """What earlier runs took more than predicted; less is no reason to take more."""
        from lora_foundry.memory.record import correction

        key = config.model.name, model
        if key not in self._factors:
            self._factors[key] = max(1.0, correction(config, model).factor)
        return self._factors[key]
