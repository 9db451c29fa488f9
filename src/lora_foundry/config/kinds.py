"""What the members of a pack have to have in common, and jobs of one kind."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from lora_foundry.config.schema import JobConfig

SHARED: tuple[str, ...] = (
    "model",
    "lora.kind",
    "data.resolution",
    "trainer.precision",
    "trainer.deterministic",
    "trainer.gradient_checkpointing",
    "trainer.accelerator",
    "memory",
)
_LATER: dict[str, object] = {"trainer.deterministic": False}


def shared(job: JobConfig) -> dict[str, object]:
    """Key to value of what is the same for every member of ``job``'s pack."""
    values: dict[str, object] = {}
    for key in SHARED:
        value: object = job
        for part in key.split("."):
            value = getattr(value, part)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            values.update({f"{key}.{name}": got for name, got in dataclasses.asdict(value).items()})
        else:
            values[key] = value
    return values


def shared_text(job: JobConfig) -> str:
    """:func:`shared` as text: jobs with the same may train together."""
    return json.dumps(_noted(job), sort_keys=True)


def kind_of(job: JobConfig) -> str:
    """Hex digest: jobs of one kind take steps that cost the same, a row and an adapter."""
    decides = {"shared": _noted(job), "targets": job.lora.target_modules}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _noted(job: JobConfig) -> dict[str, object]:
    """As :func:`shared`; keys that came later are left out at what was meant before, so that what was noted counts."""
    return {key: value for key, value in shared(job).items() if key not in _LATER or value != _LATER[key]}
