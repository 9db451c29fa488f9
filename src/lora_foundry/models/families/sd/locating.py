"""From ``model.path`` to files: a folder, a single file, or a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from lora_foundry.config.paths import locate
from lora_foundry.config.schema import ModelConfig
from lora_foundry.models.families.sd.layout import SdLayout, folder_layout, single_layout
from lora_foundry.models.families.sd.pickled import PICKLED
from lora_foundry.models.protocol import BaseError

ALLOWED = "a folder in diffusers' format, a single .safetensors file, or a hub id (owner/name)"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_FILES = (
    "model_index.json",
    "scheduler/*.json",
    "tokenizer/*",
    "*/config.json",
    "unet/diffusion_pytorch_model*.safetensors*",
    "vae/diffusion_pytorch_model*.safetensors*",
    "text_encoder/model*.safetensors*",
)
HUB_SKIPPED = ("*.non_ema.*", "safety_checker/*", "*.fp16.*")


def find_layout(model: ModelConfig) -> SdLayout:
    """Find and check the base's files; a hub id is downloaded once and then found in the hub's cache.

    Raises:
        BaseError: When nothing usable is there.
    """
    path = locate(model.path)
    if path.is_dir():
        return folder_layout(path)
    if path.is_file():
        return _single(path, model)
    if is_hub_id(model.path):
        return folder_layout(_from_hub(model))
    msg = f"model.path: got {model.path!r}, where there is nothing ({path.absolute()}); allowed is {ALLOWED}"
    raise BaseError(msg)


def is_hub_id(path: str) -> bool:
    """Whether what is no folder and no file here may be a model on the hub."""
    return HUB_ID.fullmatch(path) is not None and Path(path).suffix not in {".safetensors", *PICKLED}


def _single(path: Path, model: ModelConfig) -> SdLayout:
    if path.suffix not in {".safetensors", *PICKLED}:
        msg = f"model.path: got {model.path!r}, a {path.suffix or 'nameless'} file; allowed is {ALLOWED}"
        raise BaseError(msg)
    if model.config is None:
        msg = (
            f"model.config: got null, but model.path={model.path} is a single file, whose configs and tokenizer are "
            "needed; for Stable Diffusion 1.x take model=sd15 (model.config=assets/sd15-config)"
        )
        raise BaseError(msg)
    configs = locate(model.config)
    if not configs.is_dir():
        msg = (
            f"model.config: got {model.config!r}, which is no folder; for Stable Diffusion 1.x take assets/sd15-config"
        )
        raise BaseError(msg)
    return single_layout(path, configs)


def _from_hub(model: ModelConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    def snapshot(*, local_files_only: bool) -> Path:
        folder = snapshot_download(
            model.path,
            revision=model.revision,
            allow_patterns=list(HUB_FILES),
            ignore_patterns=list(HUB_SKIPPED),
            local_files_only=local_files_only,
        )
        return Path(folder)

    try:
        return snapshot(local_files_only=True)
    except LocalEntryNotFoundError:
        pass  # not in the hub's cache yet
    at = f"model.path: got {model.path!r}, which is no folder or file here, so it was taken for a hub id"
    do = f"allowed is {ALLOWED}; copy the model here and give its path (model.path=./models/v1-5-pruned.safetensors)"
    try:
        return snapshot(local_files_only=False)
    except LocalEntryNotFoundError as error:
        msg = f"{at}, but the hub cannot be reached and its cache does not hold it; {do}"
        raise BaseError(msg) from error
    except GatedRepoError as error:
        msg = f"{at}, but its owner asks for consent: give it on the model's page, then log in with `hf auth login`"
        raise BaseError(msg) from error
    except HfHubHTTPError as error:
        msg = f"{at}, but the hub answered: {str(error).splitlines()[0]}; {do}"
        raise BaseError(msg) from error
