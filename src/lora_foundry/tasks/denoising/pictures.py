"""Pictures of fixed prompts and seeds, drawn with the base and with members at several scales."""

from __future__ import annotations

import io
import logging
import re
import zlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
from PIL import Image

from lora_foundry.config.logged import LIKENESS
from lora_foundry.config.paths import locate
from lora_foundry.data.cache import device_name, digest_of, key_of
from lora_foundry.data.checks import validation_view
from lora_foundry.data.images import load_pixels
from lora_foundry.data.transform import variants
from lora_foundry.lora.rows import RowPlan
from lora_foundry.models.likeness import Likeness, mean_cosine
from lora_foundry.models.sampling import decoded, draw, pictures_at_once, rows_of_a_forward
from lora_foundry.tasks.denoising.material import material_of
from lora_foundry.tasks.protocol import Shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from lora_foundry.config.schema import DataConfig
    from lora_foundry.data.encoding import EncodedData
    from lora_foundry.models.protocol import Conditioning, Decoder, Denoiser
    from lora_foundry.tasks.denoising.material import Prompts
    from lora_foundry.tasks.protocol import Ground, Trainee

_LOG = logging.getLogger(__name__)
_LOOKED_AT = 64  # training images that pictures are held against


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One drawn picture: ``pixels [H, W, 3]`` uint8."""

    prompt: str
    seed: int
    scale: float
    pixels: Tensor


class Painter:
    """Draws for the members of a pack.

    The base's own pictures are drawn once and shared: they are those of scale 0 and of adapters that are
    still zero, as all are at the start.

    Args:
        pack: The members.
        denoiser: Their base.
        decoder: The base's decoder.
    """

    def __init__(self, pack: Ground, denoiser: Denoiser, decoder: Decoder) -> None:
        self._pack = pack
        self._denoiser = denoiser
        self._decoder = decoder
        self._base: dict[tuple[object, ...], list[Tensor]] = {}
        self._rows: int | None = None  # of a forward; fewer once memory ran out
        self._at_once: int | None = None  # pictures that are decoded together; one once memory ran out
        self._encoders: dict[str, Likeness] = {}
        self._learned: dict[tuple[str, int], tuple[EncodedData, Tensor]] = {}  # with the data, whose id is in the key
        self._measured: dict[str, dict[str, float]] = {}

    def show(self, members: Sequence[Trainee]) -> dict[str, list[Shown]]:
        """Every picture of :meth:`draw` as a PNG file."""
        drawn = self.draw(members)
        self._measured = {
            member.name: {LIKENESS: self._likeness(member, drawn[member.name])}
            for member in members
            if member.config.validation.likeness is not None and drawn[member.name]
        }
        for encoder in self._encoders.values():
            encoder.leave()
        return {name: [_shown(picture) for picture in pictures] for name, pictures in drawn.items()}

    def measured(self) -> dict[str, dict[str, float]]:
        """How like the pictures drawn last are to those that are learned from."""
        return self._measured

    def _likeness(self, member: Trainee, pictures: Sequence[Picture]) -> float:
        """Of the pictures at the scale next to 1, which people use."""
        folder, train = str(member.config.validation.likeness), material_of(member).train
        encoder = self._encoders.setdefault(folder, Likeness(locate(folder), self._pack.device))
        key = folder, id(train)
        if key not in self._learned:
            self._learned[key] = train, encoder.embed(_pictures_of(train, member.config.data))
        scale = min((one for one in member.config.sample.scales if one > 0), key=lambda one: abs(one - 1))
        drawn = encoder.embed([picture.pixels for picture in pictures if picture.scale == scale])
        return mean_cosine(drawn, self._learned[key][1])

    def draw(self, members: Sequence[Trainee]) -> dict[str, list[Picture]]:
        """Every prompt x seed x scale of each member's own ``sample`` settings, by the member's name.

        Members that draw the same things at the same scale share their forwards.
        """
        drawn: dict[str, list[Picture]] = {member.name: [] for member in members}
        groups: dict[tuple[object, ...], list[Trainee]] = {}
        for member in members:
            if material_of(member).prompts is not None:
                groups.setdefault(_same(member), []).append(member)
        for key, group in groups.items():
            for scale in group[0].config.sample.scales:
                for member, pixels in zip(group, self._at_scale(key, group, scale), strict=True):
                    drawn[member.name].extend(_label(member, scale, pixels))
        return drawn

    def _at_scale(self, key: tuple[object, ...], group: Sequence[Trainee], scale: float) -> list[list[Tensor]]:
        if scale and not all(self._pack.bank.is_zero(member.name) for member in group):
            return self._paint(group, scale)
        if key not in self._base:
            self._base[key] = self._base_pictures(group[0])
        return [self._base[key]] * len(group)

    def _base_pictures(self, member: Trainee) -> list[Tensor]:
        """The base's own pictures, from the cache where another pack has drawn them."""
        if member.cache is None:
            return self._paint([member], 0.0)[0]
        size = member.config.data.resolution
        most = self._most_rows(size), self._most_at_once(size)
        key = key_of({"kind": "base pictures", "rows": list(most), **_decides(self._pack, self._denoiser, member)})
        kept = member.cache.get(key)
        if kept is not None:
            return list(kept["pictures"])
        pictures = self._paint([member], 0.0)[0]
        if most == (
            self._rows,
            self._at_once,
        ):  # else memory ran out, and kernels round differently
            try:
                member.cache.put(key, {"pictures": torch.stack(pictures)})
            except OSError as error:  # nothing is lost but time: the next pack draws them again
                _LOG.warning("the base's pictures were not kept: %s", error)
        return pictures

    def _most_rows(self, size: int) -> int:
        return self._rows or rows_of_a_forward((size // self._decoder.pixels_per_cell) ** 2)

    def _most_at_once(self, size: int) -> int:
        return self._at_once or pictures_at_once(size)

    def _paint(self, group: Sequence[Trainee], scale: float) -> list[list[Tensor]]:
        first = group[0]
        sample, prompts = first.config.sample, _prompts(first)
        repeats = len(sample.seeds)
        conditioning = {
            name: states.repeat_interleave(repeats, dim=0).repeat(len(group), *[1] * (states.ndim - 1))
            for name, states in prompts.conditioning.items()
        }
        each = len(prompts.texts) * repeats
        size = first.config.data.resolution

        def with_most(rows: int) -> Tensor:
            with self._pack.wary(unless=rows == 1):
                return draw(
                    self._denoiser,
                    conditioning=conditioning,
                    empty_conditioning=prompts.empty,
                    seeds=list(sample.seeds) * len(prompts.texts) * len(group),
                    steps=sample.steps,
                    guidance=sample.guidance,
                    side=size // self._decoder.pixels_per_cell,
                    sampler=sample.sampler,
                    around=lambda pictures: self._around(pictures, group, each, scale),
                    denoise=self._denoise,
                    max_rows=rows,
                )

        latents, self._rows = self._pack.in_fewer_rows(with_most, self._most_rows(size))
        return [list(part) for part in self._decoded(latents, size).split(each)]

    def _decoded(self, latents: Tensor, size: int) -> Tensor:
        """Pictures of ``latents``, which stay when memory runs out here; the decoder is on the device no longer."""

        def with_most(at_once: int) -> Tensor:
            with self._pack.wary(unless=at_once == 1):
                return decoded(self._decoder, latents, at_once)

        try:
            pictures, self._at_once = self._pack.in_fewer_rows(with_most, self._most_at_once(size))
        finally:
            self._decoder.leave()
        return pictures

    def _denoise(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        self._pack.end_if_stopped()
        return self._denoiser.denoise(noisy, timesteps, conditioning)

    def _around(
        self, rows: Sequence[int], group: Sequence[Trainee], each: int, scale: float
    ) -> AbstractContextManager[None]:
        """Rows name pictures; runs of pictures of one member become one block of the plan."""
        bank = self._pack.bank
        owners = [bank.place(group[row // each].name) for row in rows]
        places, counts = torch.unique_consecutive(torch.tensor(owners), return_counts=True)
        return bank.rows(RowPlan(places=tuple(places.tolist()), counts=tuple(counts.tolist()), scale=scale))


def _same(member: Trainee) -> tuple[object, ...]:
    sample, prompts = member.config.sample, _prompts(member)
    return (prompts.texts, sample.seeds, sample.scales, sample.sampler, sample.steps, sample.guidance)


def _decides(pack: Ground, denoiser: Denoiser, member: Trainee) -> dict[str, object]:
    """Everything that the base's pictures for ``member`` depend on, besides the rows of a forward."""
    sample, prompts = member.config.sample, _prompts(member)
    empty = {f"empty.{name}": states for name, states in prompts.empty.items()}
    return {
        "base": member.base_hash,
        "conditioning": digest_of({**prompts.conditioning, **empty}),
        "seeds": list(sample.seeds),
        "sampler": sample.sampler or denoiser.process.sampler,
        "steps": sample.steps,
        "guidance": sample.guidance,
        "size": member.config.data.resolution,
        "scheduler": dict(denoiser.scheduler_config),
        **pack.dtypes.decides(pack.device),
        "device": device_name(pack.device),
        "versions": [version(name) for name in ("torch", "diffusers")],
    }


def _prompts(member: Trainee) -> Prompts:
    prompts = material_of(member).prompts
    if prompts is None:
        msg = f"{member.name} draws nothing"
        raise ValueError(msg)
    return prompts


def _label(member: Trainee, scale: float, pixels: Sequence[Tensor]) -> list[Picture]:
    sample = member.config.sample
    named = [(prompt, seed) for prompt in _prompts(member).texts for seed in sample.seeds]
    return [
        Picture(prompt=prompt, seed=seed, scale=scale, pixels=picture)
        for (prompt, seed), picture in zip(named, pixels, strict=True)
    ]


def _pictures_of(data: EncodedData, config: DataConfig) -> list[Tensor]:
    """Training images as they are learned from, unmirrored: the first by content; ``[H, W, 3]`` uint8 each."""
    view = validation_view(config)
    (variant,) = variants(view)
    return [
        ((load_pixels(record.image, view, variant, digest=record.digest) + 1) * 127.5)
        .round()
        .to(torch.uint8)
        .permute(1, 2, 0)
        for record in data.records[:_LOOKED_AT]
    ]


def _shown(picture: Picture) -> Shown:
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels.numpy()).save(buffer, format="PNG")
    name = f"{slug(picture.prompt)}-s{picture.seed}"
    return Shown(
        prompt=picture.prompt,
        seed=picture.seed,
        scale=picture.scale,
        file=f"{name}-x{picture.scale:g}.png",
        key=f"{name}/scale {picture.scale:g}",
        content=buffer.getvalue(),
    )


def slug(text: str) -> str:
    """``text`` as a file name; where letters were lost or cut, a checksum tells one prompt from another."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
    if re.fullmatch(r"[a-z0-9 ]{1,60}", text):
        return plain
    return f"{plain}-{zlib.crc32(text.encode()):08x}".strip("-")
