"""What the header of an adapter file says besides the tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from lora_foundry.lora.formats.adapter import Adapter, ExportError

MADE_BY = "lora_foundry.job"
"""Entry of the header that says which job wrote a file."""
# Beginning of ss_base_model_version: (ModelSpec's architecture, the web UI's version).
_BASES = {
    "sd_v1": ("stable-diffusion-v1", "SD1"),
    "sd_v2": ("stable-diffusion-v2-512", "SD2"),
    "sd_v2_768_v": ("stable-diffusion-v2-768-v", "SD2"),
    "sdxl_": ("stable-diffusion-xl-v1-base", "SDXL"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileMetadata:
    """What a reader shows about an adapter, and what tells it which base the adapter fits.

    The adapter's own name is not here: it is the file's stem, which the web UI's ``<lora:...>`` alias must equal.

    Attributes:
        base_version: ``sd_v1``, ``sd_v2``, ``sd_v2_768_v`` or a name beginning with ``sdxl_``.
        base_name: The base's name, without a path.
        prediction_type: What the base predicts.
        resolution: Side of the training images, pixels.
        train_images: Number of training images, each as often as it repeats.
        started_at: Start of training, unix seconds.
        network_args: Further settings of the network (``ss_network_args``).
        tag_frequency: Per image folder, how often each caption tag occurs.
        dataset_dirs: Number of images of each image folder, by the folder's name.
        repeats: How often the images of a folder count in an epoch, by its name; once where it is not named.
        title: Title for people; empty takes the file's stem.
        trigger_phrase: Text that calls the adapter in a prompt; empty for none.
        description: Text for people.
        notes: Text for people, in the sidecar only.
        preferred_weight: Scale that the web UI proposes.
        job: Says which job wrote the file: equal for one that is trained again; empty for none.
    """

    base_version: str
    base_name: str
    prediction_type: Literal["epsilon", "v_prediction"]
    resolution: int
    train_images: int
    started_at: float
    network_args: Mapping[str, object] = field(default_factory=dict)
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    dataset_dirs: Mapping[str, int] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)
    title: str = ""
    trigger_phrase: str = ""
    description: str = ""
    notes: str = ""
    preferred_weight: float = 1.0
    job: str = ""

    @property
    def is_sdxl(self) -> bool:
        """Whether readers take the file for an SDXL adapter."""
        return self.base_version.startswith("sdxl_")


def kohya_header(meta: FileMetadata, adapter: Adapter, stem: str) -> dict[str, str]:
    """The ``ss_*`` and ``modelspec.*`` entries of a kohya file; the hashes are added with the tensors.

    Raises:
        ExportError: When ``meta.base_version`` is none that readers know.
    """
    ranks = {weights.rank for _, _, weights in adapter.modules()}
    alphas = {weights.alpha for _, _, weights in adapter.modules()}
    side = meta.resolution
    folders = {
        name: {"n_repeats": meta.repeats.get(name, 1), "img_count": count} for name, count in meta.dataset_dirs.items()
    }
    buckets = {"buckets": {"0": {"resolution": [side, side], "count": meta.train_images}}, "mean_img_ar_error": 0.0}
    return {
        "ss_base_model_version": meta.base_version,
        "ss_v2": str(_base(meta)[1] == "SD2"),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": f"{alphas.pop():.9g}" if len(alphas) == 1 else "Dynamic",
        "ss_network_args": json.dumps(dict(meta.network_args)),
        "ss_output_name": stem,
        "ss_sd_model_name": meta.base_name,
        "ss_resolution": f"({side}, {side})",
        "ss_num_train_images": str(meta.train_images),
        "ss_tag_frequency": json.dumps({folder: dict(tags) for folder, tags in meta.tag_frequency.items()}),
        "ss_dataset_dirs": json.dumps(folders),
        "ss_bucket_info": json.dumps(buckets),
        "ss_training_started_at": f"{meta.started_at:.3f}",
        **modelspec(meta, stem),
        **({MADE_BY: meta.job} if meta.job else {}),
    }


def modelspec(meta: FileMetadata, stem: str) -> dict[str, str]:
    """The ``modelspec.*`` entries (Stability AI's ModelSpec 1.0.1), without the hash."""
    entries = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{_base(meta)[0]}/lora",
        "implementation": "diffusers",
        "title": meta.title or stem,
        "resolution": f"{meta.resolution}x{meta.resolution}",
        "date": datetime.fromtimestamp(int(meta.started_at), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "prediction_type": "v" if meta.prediction_type == "v_prediction" else "epsilon",
    }
    optional = {"trigger_phrase": meta.trigger_phrase, "description": meta.description}
    return {f"modelspec.{key}": text for key, text in {**entries, **optional}.items() if text}


def webui_version(meta: FileMetadata) -> str:
    """The web UI's name of the base's family: ``SD1``, ``SD2`` or ``SDXL``."""
    return _base(meta)[1]


def _base(meta: FileMetadata) -> tuple[str, str]:
    if meta.base_version in _BASES:
        return _BASES[meta.base_version]
    if meta.is_sdxl:
        return _BASES["sdxl_"]
    raise ExportError(
        f"base_version: got {meta.base_version!r}, allowed is sd_v1, sd_v2, sd_v2_768_v or a name that begins with "
        "sdxl_ (readers tell the base by it); set model.version"
    )
