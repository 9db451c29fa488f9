"""What scores and pictures will cost beside the steps, as people are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lora_foundry.config.besides import Besides, besides, in_all
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.plan.clock import in_words

Steps = Callable[[JobConfig], int | None]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of jobs whose steps take ``seconds`` on one device after another; null where that is not known."""

    work: Besides
    seconds: float | None

    def __str__(self) -> str:
        """A line. A row of a small batch's step takes longer than its operations tell, hence ``at most``."""
        scoring, drawing = self.work.scoring / self.work.steps, self.work.drawing / self.work.steps
        drawn = f", pictures at most {_percent(drawing)}" if drawing else ", and no pictures are drawn"
        took = "" if self.seconds is None else f": {in_words(self.seconds * (scoring + drawing))} in all"
        return f"Beside the steps: scoring at most {_percent(scoring)} of their time{drawn}{took}."


def cost_of(jobs: Iterable[JobConfig], steps: Steps, seconds: float | None) -> Cost | None:
    """What jobs cost beside their steps; null where no job's steps are known before its data is read.

    Args:
        jobs: Of which those count whose steps are known.
        steps: Optimizer steps of a job.
        seconds: That the steps take, all packs one after another.
    """
    work = in_all(besides(job, total) for job in jobs if (total := steps(job)) is not None)
    return Cost(work, seconds) if work.steps else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
