"""What encoding and decoding a picture takes, traced as a step is (:mod:`lora_foundry.memory.trace`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lora_foundry.memory.recall import RECALL
from lora_foundry.memory.scratch import Alive, Convolutions
from lora_foundry.memory.tally import Tally
from lora_foundry.memory.trace import GRAIN, META, attention_by
from lora_foundry.tasks.denoising.task import DECODED_IN, ENCODED_IN

if TYPE_CHECKING:
    from lora_foundry.models.protocol import BaseSizes


class TracedPictures:
    """The networks beside the base, in fp32 as they are loaded, one picture or caption at a time.

    Args:
        sizes: Of the base.
        side: Of a picture, pixels.

    Attributes:
        encoders: Bytes of the weights of those that encode, which are on the device together.
        encoding: Alive beside them.
        decoder: Bytes of the weights of the one that decodes.
        decoding: Alive beside them.
    """

    def __init__(self, sizes: BaseSizes, side: int) -> None:
        with _NoContent(), META, attention_by("fused"):  # in 32 bits it is fused on every device
            images = sizes.image_encoder(dtype=ENCODED_IN, device=META)
            captions = sizes.caption_encoder(dtype=ENCODED_IN, device=META)
            pixels = torch.zeros(1, 3, side, side)
            calls: list[Callable[[], object]] = [lambda: images.encode(pixels)]
            if captions is not None:
                calls.append(lambda: captions.encode([""]))
            self.encoders, self.encoding = _traced(calls)
            latents = images.encode(pixels)
            images.close()
            decoder = sizes.load_decoder(dtype=DECODED_IN, device=META)
            self.decoder, self.decoding = _traced([lambda: decoder.decode(latents)])


class _NoContent(TorchFunctionMode):
    """A tensor without content stays one, where results go to the CPU."""

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        return args[0] if func is Tensor.cpu and args[0].is_meta else func(*args, **(kwargs or {}))


def _traced(calls: Sequence[Callable[[], object]]) -> tuple[int, Alive]:
    """Bytes of the weights that ``calls`` read when they are made first, and what is alive when they are made again."""
    inside = Convolutions()
    tally = Tally(grain=GRAIN, inside=inside, recall=RECALL)
    with tally:
        for call in calls:
            call()
        weights, inside.most = tally.mark(), 0
        for call in calls:
            call()
    tensors = tally.peak - weights
    return weights, Alive(tensors=tensors, inside=max(tensors, inside.most))
