"""``src.find_lr``: many learning rates for a few samples as one pack, and what their curves say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lora_foundry.config.errors import SweepError
from lora_foundry.config.schema import JobConfig
from lora_foundry.judge.rates import RateCurve, between, spread
from lora_foundry.launch.records.reading import measured, read_results
from lora_foundry.search.watch import COMPARED

KEY = "optimizer.lr"
_LOOKS = 4  # validations of the short run, that at its end among them
_FOLDERS = ("hydra.sweep.dir=", "hydra.run.dir=")  # the short run lies there
_TIMESTEPS = 4  # half of a validation's by default: rates differ by more than ranks


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is to be found out.

    Attributes:
        words: The user's own overrides, without rates.
        rates: How many.
        low: The lowest; null goes by what the base usually takes, as the next.
        high: The highest.
        samples: That each rate sees.
    """

    words: tuple[str, ...]
    rates: int = 9
    low: float | None = None
    high: float | None = None
    samples: int = 160

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            SweepError: With a line for each.
        """
        given = [word for word in self.words if word.lstrip("+").startswith(f"{KEY}=")]
        wrong = [
            (self.rates < 3, f"--rates: got {self.rates}, allowed is at least 3"),
            (self.samples < 1, f"--samples: got {self.samples}, allowed is at least 1"),
            (self.low is not None and self.low <= 0, f"--low: got {self.low}, allowed is more than 0"),
            (
                self.low is not None and self.high is not None and self.low >= self.high,
                f"--low and --high: got {self.low} and {self.high}, allowed is a lower and a higher rate",
            ),
            (bool(given), f"{' '.join(given)}: the rate is what is to be found; give --low and --high, or nothing"),
        ]
        if problems := [line for bad, line in wrong if bad]:
            raise SweepError(problems)

    def list_rates(self, usual: float) -> list[float]:
        """The rates that are tried, around the usual one where nobody says otherwise."""
        if self.low is None and self.high is None:
            return spread(usual, self.rates)
        low = self.low or min(usual, self.high or usual) / 30
        high = self.high or max(usual, low) * 30
        return between(low, high, self.rates)

    def line(self, config: JobConfig) -> list[str]:
        """The words of the short run behind ``train``.

        Args:
            config: Of the training that the rate is for.
        """
        batch = config.data.batch_size * config.trainer.accumulate
        steps = max(_LOOKS, math.ceil(self.samples / batch))
        rates = ",".join(f"{rate:g}" for rate in self.list_rates(config.optimizer.lr))
        return [
            *self.words,
            f"{KEY}={rates}",
            *("scheduler=constant", "sample=none", f"trainer.max_steps={steps}", "trainer.epochs=null"),
            *(f"validation.every={math.ceil(steps / _LOOKS)}", f"validation.timesteps={_TIMESTEPS}"),
            *("trainer.keep_best=null", f"hydra.launcher.pack_size={self.rates}", "-m"),
        ]

    def settled(self, setting: str) -> list[str]:
        """The user's words, with one value of each key that was tried with several.

        Args:
            setting: Those values, as words.
        """
        chosen = dict(word.partition("=")[::2] for word in setting.split(" ") if word)
        pairs = (word.partition("=")[::2] for word in self.words if not word.startswith(_FOLDERS))
        return [f"{key}={chosen.get(key, value)}" for key, value in pairs]


@dataclass(kw_only=True, slots=True)
class Found:
    """Curves of one setting.

    Attributes:
        setting: What else was swept, as words; empty where nothing was.
        curves: By rate, ascending.
    """

    setting: str
    curves: list[RateCurve] = field(default_factory=list)


def curves_of(folder: Path) -> list[Found]:
    """The curves of a short run, a setting each.

    Raises:
        SweepError: When the sweep cannot be read.
    """
    told: dict[int, dict[int, float]] = {}
    for event in measured(folder):
        value = event.values.get(COMPARED)
        if isinstance(value, (int, float)):
            told.setdefault(event.job, {})[event.samples] = float(value)
    found: dict[str, Found] = {}
    for result in read_results(folder):
        points = sorted((at, value) for at, value in told.get(result.job, {}).items() if at > 0)
        curve = RateCurve(
            rate=float(result.overrides[KEY]),
            samples=tuple(at for at, _ in points),
            losses=tuple(value for _, value in points),
            failed=result.state != "FINISHED",
        )
        setting = _setting(result.overrides)
        found.setdefault(setting, Found(setting=setting)).curves.append(curve)
    for one in found.values():
        one.curves.sort(key=lambda curve: curve.rate)
    return _without_common(list(found.values()))


def _setting(overrides: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in overrides.items() if key != KEY)


def _without_common(found: Sequence[Found]) -> list[Found]:
    """What all have in common tells nothing."""
    words = [one.setting.split(" ") for one in found]
    common = set.intersection(*map(set, words)) if words else set()
    return [
        Found(setting=" ".join(word for word in own if word not in common), curves=one.curves)
        for one, own in zip(found, words, strict=True)
    ]
