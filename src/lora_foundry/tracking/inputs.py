"""A job's data set and base as the inputs of its run: MLflow's tables show them in a column, and filter by them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lora_foundry.config.schema import JobConfig

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_CONTEXT = "mlflow.data.context"
_LONGEST_DIGEST = 36
_LONGEST_NAME = 500
_SOURCE = "local"
# What the inputs are called here, the tag of the worker's that has the digest, and what MLflow shows it as.
_KINDS = (("data", "data_hash", "training"), ("base", "base_hash", "base"))
_PATH, _HELD_OUT = "path", "val_path"


def inputs_of(config: JobConfig) -> dict[str, str]:
    """Names and places of what a job learns from and of the base."""
    data, model = config.data, config.model
    told = {"data": data.name, f"data.{_PATH}": data.path, "base": model.name, f"base.{_PATH}": model.path}
    return told if data.val_path is None else {**told, f"data.{_HELD_OUT}": data.val_path}


def datasets(inputs: Mapping[str, str], tags: Mapping[str, object]) -> list[DatasetInput]:
    """What MLflow takes of them, as far as digests are told.

    Args:
        inputs: Of :func:`inputs_of`; nothing of a sweep that an earlier version recorded.
        tags: What a worker tells of a job when it begins.
    """
    return list(_datasets(inputs, tags))


def _datasets(inputs: Mapping[str, str], tags: Mapping[str, object]) -> Iterator[DatasetInput]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    for kind, tag, context in _KINDS:
        if kind not in inputs or tag not in tags:
            continue
        place = {"uri": inputs[f"{kind}.{_PATH}"]}
        if f"{kind}.{_HELD_OUT}" in inputs:
            place["held_out"] = inputs[f"{kind}.{_HELD_OUT}"]
        yield DatasetInput(
            dataset=Dataset(
                name=inputs[kind][:_LONGEST_NAME],
                digest=str(tags[tag])[:_LONGEST_DIGEST],
                source_type=_SOURCE,
                source=json.dumps(place, ensure_ascii=False),
            ),
            tags=[InputTag(_CONTEXT, context)],
        )
