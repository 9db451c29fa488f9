"""What a family of bases offers. The rest of the project knows these and no family's own classes.

Shape legend: N rows, C latent channels, h and w latent height and width, H and W picture height and width in
pixels, S side of a square picture, L tokens of a padded caption, D width of a token's state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lora_foundry.objectives.process import NoiseProcess

Conditioning = dict[str, "Tensor"]
"""What a denoiser is told besides the picture: name to tensor, the first dimension being rows."""


class BaseError(ValueError):
    """The base's files are missing, incomplete or of the wrong kind; the message says what to do."""


def in_one_line(error: BaseError) -> str:
    """A message that lists problems below each other, as one line."""
    head, *rest = str(error).splitlines()
    listed = [line.strip().removeprefix("- ") for line in rest if line.startswith("  - ")]
    said = [line.strip() for line in rest if not line.startswith("  - ")]
    return " ".join([head, *(["; ".join(listed) + "."] if listed else []), *said])


class ImageEncoder(Protocol):
    """Pictures to latents. Reads its weights at the first :meth:`encode`."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same picture would give other latents (weights, scaling, dtype)."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures [N, 3, S, S] in [-1, 1] to latents [N, C, h, w] on the CPU."""

    def close(self) -> None:
        """Let go of the weights; a later :meth:`encode` reads them again."""


class CaptionEncoder(Protocol):
    """Captions to conditioning. Reads its weights at the first :meth:`encode`."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same caption would give another conditioning."""

    def encode(self, captions: Sequence[str]) -> Conditioning:
        """Conditioning with one row a caption, on the CPU."""

    def close(self) -> None:
        """Let go of the weights; a later :meth:`encode` reads them again."""


class Decoder(Protocol):
    """Latents to pictures."""

    @property
    def pixels_per_cell(self) -> int:
        """Pixels of a picture's side per latent cell."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [N, C, h, w] to pictures [N, H, W, 3], uint8 on the CPU."""

    def leave(self) -> None:
        """Make room on the device: the weights wait on the host for a later :meth:`decode`."""

    def close(self) -> None:
        """Let go of the weights; a later :meth:`decode` reads them again."""


class Base(Protocol):
    """Frozen networks that adapters are put into, whatever they compute."""

    @property
    def components(self) -> Mapping[str, nn.Module]:
        """Its networks by name, frozen and in eval mode; the first is what it predicts with.

        Its layers are called as :mod:`lora_foundry.config.components` says.
        """

    @property
    def layers(self) -> Mapping[str, str]:
        """Layers an adapter can target, as they were before any was put in: dotted name to kind."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the base's weights."""

    @property
    def device(self) -> torch.device:
        """Where the base lies."""

    def set_gradient_checkpointing(self, *, enabled: bool) -> None:
        """Recompute activations in the backward pass, or keep them."""

    def target_names(self, target_modules: str | Sequence[str]) -> list[str]:
        """Sorted dotted names of the layers that a preset, or a list of name endings, stands for."""


class Denoiser(Base, Protocol):
    """A base that takes noise away."""

    @property
    def module(self) -> nn.Module:
        """The network that does: the first of its components."""

    @property
    def process(self) -> NoiseProcess:
        """How the noise was added that it was trained to take away, and what it says of it."""

    @property
    def latent_channels(self) -> int:
        """C."""

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """All that a sampler of the process's family is made with, from the base's own scheduler."""

    def denoise(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Prediction [N, C, h, w] for noisy latents [N, C, h, w] at noise levels [N] of its process."""


class BaseSizes(Protocol):
    """A base known by its configs alone; it has no weights."""

    @property
    def fingerprint(self) -> str:
        """Equal only where the sizes of all layers are."""

    @property
    def pixels_per_cell(self) -> int:
        """Pixels of a picture's side per latent cell."""

    def build(self, dtype: torch.dtype) -> Denoiser:
        """The denoiser with weights of no particular value, in memory that was never touched."""

    def conditioning(self, rows: int, dtype: torch.dtype) -> Conditioning:
        """Conditioning of the right shapes, one row a picture."""

    def image_encoder(self, *, dtype: torch.dtype, device: torch.device) -> ImageEncoder:
        """As the files' own, with weights of no particular value; they are made at the first picture."""

    def caption_encoder(self, *, dtype: torch.dtype, device: torch.device) -> CaptionEncoder | None:
        """As the files' own, with weights of no particular value; None where no config tells its size."""

    def load_decoder(self, *, dtype: torch.dtype, device: torch.device) -> Decoder:
        """As the files' own, with weights of no particular value; they are made at the first picture."""


class BaseFiles(Protocol):
    """A base that was found and found complete; nothing of its weights is in memory."""

    @property
    def base_hash(self) -> str:
        """Content hash of all weights, configs and the tokenizer; the same wherever the files lie."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of the files that were found; a line each."""

    @property
    def max_tokens(self) -> int:
        """Most tokens of a caption, begin and end marks included."""

    @property
    def stride(self) -> int:
        """Pixels that a picture's side must be a multiple of."""

    @property
    def pixels_per_cell(self) -> int:
        """Pixels of a picture's side per latent cell."""

    def count_tokens(self, caption: str) -> int:
        """Tokens of ``caption``, begin and end marks included, before any is cut off."""

    def import_libraries(self) -> None:
        """Import what loading needs, so that its memory counts as the program's and not as the base's."""

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the weights of the layers that an adapter can target, by dotted name; no weight is read."""

    def weight_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of the weights that a training keeps in memory, in ``dtype``, from the files' headers."""

    def image_encoder(self, *, dtype: torch.dtype, device: torch.device) -> ImageEncoder:
        """Encoder of pictures, weights not read yet."""

    def caption_encoder(self, *, dtype: torch.dtype, device: torch.device) -> CaptionEncoder:
        """Encoder of captions, weights not read yet."""

    def load_denoiser(
        self, *, dtype: torch.dtype, device: torch.device, gradient_checkpointing: bool = False
    ) -> Denoiser:
        """The denoiser, weights read, every parameter frozen."""

    def load_decoder(self, *, dtype: torch.dtype, device: torch.device) -> Decoder:
        """Decoder of latents, weights not read yet."""
