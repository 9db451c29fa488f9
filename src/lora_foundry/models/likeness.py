"""How like pictures are by an encoder of images: CLIP, DINO, or another that transformers knows as one.

Torch and transformers are imported where pictures are looked at: whether a folder may hold such an encoder is told
without them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_foundry.models.protocol import BaseError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_ROWS = 16  # pictures of a forward
_FILES = ("config.json", "preprocessor_config.json")
_ALLOWED = "allowed is a local folder of an image encoder, CLIP or DINO say, as transformers saves it"


def folder_problems(folder: Path) -> list[str]:
    """Why a folder cannot hold an image encoder, as far as its files tell; no weight is read."""
    if not folder.is_dir():
        return [f"validation.likeness: {folder} is {'a file' if folder.exists() else 'missing'}; {_ALLOWED}"]
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        return [f"validation.likeness: {folder} has no {', '.join(missing)}; {_ALLOWED}"]
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        return [f"validation.likeness: {folder / 'config.json'} is no JSON ({error}); {_ALLOWED}"]
    if not isinstance(told, dict) or not isinstance(told.get("model_type"), str):
        return [f"validation.likeness: {folder / 'config.json'} names no model_type; {_ALLOWED}"]
    return []


class Likeness:
    """Looks at pictures; the weights are read at the first.

    Args:
        folder: Of the encoder.
        device: Where it looks.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder = folder
        self._device = device
        self._loaded: tuple[Any, Any] | None = None

    def embed(self, pictures: Sequence[Tensor]) -> Tensor:
        """Pictures ``[H, W, 3]`` uint8 as unit vectors ``[N, D]``, fp32 on the CPU.

        Raises:
            BaseError: When the folder holds no image encoder.
        """
        import torch

        model, processor = self._encoder()
        model.to(self._device)
        found = []
        with torch.no_grad():
            for first in range(0, len(pictures), _ROWS):
                shown = [picture.numpy() for picture in pictures[first : first + _ROWS]]
                pixels = processor(images=shown, return_tensors="pt")["pixel_values"].to(self._device)
                found.append(self._looked(model, pixels).float().cpu())
        return torch.nn.functional.normalize(torch.cat(found), dim=1)

    def leave(self) -> None:
        """Make room on the device: the weights wait on the host."""
        if self._loaded is not None:
            self._loaded[0].to("cpu")

    def _encoder(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch
            from transformers import AutoImageProcessor, AutoModel

            if problems := folder_problems(self._folder):
                raise BaseError(problems[0])
            try:
                model = AutoModel.from_pretrained(self._folder, local_files_only=True, dtype=torch.float32)
                processor = AutoImageProcessor.from_pretrained(self._folder, local_files_only=True)
            except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                raise BaseError(self._wrong(error)) from error
            self._loaded = model.eval(), processor
        return self._loaded

    def _looked(self, model: Any, pixels: Tensor) -> Tensor:  # noqa: ANN401  # whatever transformers loads
        """CLIP's projected features; the pooled or the first token of others."""
        try:
            if hasattr(model, "get_image_features"):
                seen = model.get_image_features(pixel_values=pixels)
            else:
                seen = model(pixel_values=pixels)
        except (TypeError, ValueError) as error:  # a model of text
            raise BaseError(self._wrong(error)) from error
        pooled: Tensor | None = getattr(seen, "pooler_output", None)
        return seen.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)

    def _wrong(self, error: Exception) -> str:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return f"validation.likeness: {self._folder} cannot be used as an image encoder ({reason[0]}); {_ALLOWED}"


def mean_cosine(some: Tensor, others: Tensor) -> float:
    """The mean cosine of all pairs of two sets of unit vectors, ``[N, D]`` and ``[M, D]``.

    CLIP-I and DINO of Ruiz et al. 2023 (DreamBooth, arXiv:2208.12242), section 4.1: drawn pictures against real ones.
    """
    return float(some.double().mean(0) @ others.double().mean(0))
