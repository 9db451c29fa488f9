"""The names of what is logged of a job, for whoever chooses one: a search's objective, a pruner's metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lora_foundry.config.parse import nearest
from lora_foundry.config.schema_results import LOSS, ValidationConfig

RELATIVE: Final = f"val/{LOSS}_rel"
"""What jobs are compared by: the validation loss over the base's own."""
BEST_RELATIVE: Final = f"{RELATIVE}_best"
"""The same of a job's best adapter, once it has finished."""
OF_STEPS: Final = (
    "adapter/norm",
    "perf/peak_mem_gib",
    "perf/samples_per_s",
    "train/epoch",
    "train/grad_norm",
    "train/loss",
    "train/lr",
)
"""With the steps of every job (``trainer.log_every``)."""
OF_THE_END: Final[Mapping[str, str]] = {
    "adapter/bytes": "bytes",
    "adapter/size_mib": "size_mib",
    "perf/gpu_seconds": "gpu_seconds",
    "perf/seconds": "seconds",
}
"""Of a job that finished, and where its summary has it."""


DRIFT: Final = "val/drift"
"""With each validation of a job that has ``validation.drift_prompts``."""
LIKENESS: Final = "val/likeness"
"""With each drawing of a job that has ``validation.likeness``; the more the better."""
_ASKED_FOR: Final[Mapping[str, str]] = {
    DRIFT: "validation.drift_prompts names captions; add validation=drift",
    LIKENESS: "validation.likeness names an encoder's folder",
}


def of_validation(validation: ValidationConfig) -> tuple[str, ...]:
    """With each validation of a job."""
    names = dict.fromkeys((LOSS, *validation.metrics))
    metrics = tuple(told for name in names for told in (f"val/{name}", f"val/{name}_rel"))
    return (*metrics, *[DRIFT] * bool(validation.drift_prompts), *[LIKENESS] * (validation.likeness is not None))


def unknown(where: str, name: str, allowed: Sequence[str]) -> list[str]:
    """A line for a name that is none of ``allowed``."""
    if name in allowed:
        return []
    if name in _ASKED_FOR:
        return [f"{where}: {name} is measured where {_ASKED_FOR[name]}"]
    return [
        f"{where}: got {name!r}, which no job logs{nearest(name, [*allowed])}; allowed is one of {', '.join(allowed)}"
    ]
