"""The part of the schema that says how a job is judged and where its results go (:mod:`lora_foundry.config.schema`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lora_foundry.config.choices import METRICS
from lora_foundry.config.constraints import AtLeast, Between, PathText

LOSS = "loss"
"""The metric that adapters are compared by (:mod:`lora_foundry.config.best`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationConfig:
    """The fixed held-out loss, the same for every run.

    Attributes:
        every: Optimizer steps between validations; ``auto`` leaves twelve samples of training to each row that is
            scored, whatever the batch (768 by default); null validates at the start and the end only.
        timesteps: Stratified timesteps an image is scored at, and a drift prompt.
        max_images: Most held-out images used (the first by content hash).
        check_images: How many held-out images beyond the first ``max_images`` a job's best adapter is scored on at its
            end, with other noise: ``val/loss_rel_check``, by which nothing was chosen. 0, or no image left, is none.
        batch_rows: Most rows of one validation forward; null takes as many as suit the resolution.
        metrics: What is measured on the rows, each a file in ``src/lora_foundry/tasks/metrics``: ``val/<name>``, and
            over the base's own ``val/<name>_rel``. ``loss`` is always among them: adapters are compared by it.
        drift_prompts: Captions that have nothing to do with the data (``validation=drift`` brings some): how far the
            adapter moves what the base predicts for them is ``val/drift``. Empty measures none.
        likeness: Local folder of an image encoder (CLIP, DINO): the mean cosine between its embeddings of what is drawn
            and of training images is ``val/likeness``, with each drawing. Null measures none. It costs a forward of the
            encoder a picture, and once one for each of at most 64 training images, and its weights in fp32 meanwhile.
    """

    every: Annotated[int, AtLeast(1)] | Literal["auto"] | None
    timesteps: Annotated[int, Between(1, 1000)]
    max_images: Annotated[int, AtLeast(1)]
    check_images: Annotated[int, AtLeast(0)]
    batch_rows: Annotated[int, AtLeast(1)] | None
    metrics: tuple[Annotated[str, METRICS], ...]
    drift_prompts: tuple[str, ...]
    likeness: PathText | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Where finished adapters go besides the job's folder.

    Attributes:
        copy_to: Folder that a finished job's best adapter and its card are copied to, such as a web UI's
            ``models/Lora``; another adapter's file there is never replaced; null copies nothing.
    """

    copy_to: PathText | None
