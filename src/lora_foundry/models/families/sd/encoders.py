"""The VAE and the text encoder, read when first used and dropped when done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lora_foundry.models.protocol import Conditioning


class Tokenizer(Protocol):
    """Captions to token ids."""

    def encode(self, captions: Sequence[str]) -> list[list[int]]:
        """One list of ids a caption, all of one length."""


class LazyModule:
    """A module that is read at its first use."""

    def __init__(self, load: Callable[[torch.dtype], Any], *, dtype: torch.dtype, device: torch.device) -> None:
        self._load = load
        self._dtype = dtype
        self._device = device
        self._module: Any = None
        self._away = False

    def module(self) -> Any:  # noqa: ANN401  # diffusers and transformers are untyped
        """The module on its device, read now unless it was before."""
        if self._module is None:
            self._module, self._away = self._load(self._dtype), True
        if self._away:
            self._module, self._away = self._module.to(self._device), False
        return self._module

    def leave(self) -> None:
        """Have it wait on the host, where it need not be read again."""
        if self._module is not None:
            self._module, self._away = self._module.to("cpu"), True

    def place(self, tensor: Tensor) -> Tensor:
        """``tensor`` on the module's device in its dtype."""
        return tensor.to(device=self._device, dtype=self._dtype)

    def close(self) -> None:
        """Let go of the module."""
        self._module = None


class SdImageEncoder:
    """Pictures to scaled latents: the mode of the VAE's posterior, so a picture has one latent.

    ``z = (mean(x) - shift_factor) * scaling_factor`` (Rombach et al. 2022, section D.1).
    """

    def __init__(self, vae: LazyModule, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._vae = vae

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures [N, 3, S, S] in [-1, 1] to latents [N, C, h, w] in the encoder's dtype, on the CPU."""
        vae = self._vae.module()
        mode = vae.encode(self._vae.place(pixels)).latent_dist.mode()
        return ((mode - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor).cpu()

    def close(self) -> None:
        """Let go of the VAE."""
        self._vae.close()


class SdCaptionEncoder:
    """Captions to the text encoder's last hidden states, padded to the full length as the pipeline does."""

    def __init__(self, text_encoder: LazyModule, tokenizer: Tokenizer, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._text_encoder = text_encoder
        self._tokenizer = tokenizer

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Conditioning:
        """``{"encoder_hidden_states": [N, L, D]}`` in the encoder's dtype, on the CPU."""
        model = self._text_encoder.module()
        ids = torch.tensor(self._tokenizer.encode(captions), device=model.device)
        return {"encoder_hidden_states": model(ids).last_hidden_state.cpu()}

    def close(self) -> None:
        """Let go of the text encoder."""
        self._text_encoder.close()


class SdDecoder:
    """Scaled latents to pictures."""

    def __init__(self, vae: LazyModule, pixels_per_cell: int) -> None:
        self.pixels_per_cell = pixels_per_cell
        self._vae = vae

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents [N, C, h, w] to pictures [N, H, W, 3], uint8 on the CPU."""
        vae = self._vae.module()
        unscaled = self._vae.place(latents) / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        pictures = vae.decode(unscaled).sample.float()
        bytes_ = ((pictures / 2 + 0.5).clamp(0, 1) * 255).round()
        return bytes_.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()

    def leave(self) -> None:
        """Have the VAE wait on the host."""
        self._vae.leave()

    def close(self) -> None:
        """Let go of the VAE."""
        self._vae.close()
