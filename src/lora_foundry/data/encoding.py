"""Latents and text states of a data set, computed once and kept in the cache."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.cache import TensorCache
from lora_foundry.data.images import load_pixels
from lora_foundry.data.keys import caption_key, image_key
from lora_foundry.data.records import DataError, Record
from lora_foundry.data.transform import Variant, variants

Log = Callable[[str], None]
T = TypeVar("T")
_ROWS = 8  # of one encoder call
_PIXELS = 8 * 256 * 256  # of one encoder call: a VAE's activations grow with them
_LOG_S = 2.0  # between two lines of progress
_THREADS = 4  # reading images, and waiting for the disk to sync cache entries
_EMPTY = ""


class ImageEncoder(Protocol):
    """A VAE's encoder; its weights load on the first :meth:`encode`."""

    @property
    def fingerprint(self) -> str:
        """Equal only where equal pixels give equal latents; reading it loads no weights."""

    def encode(self, pixels: Tensor) -> Tensor:
        """``[N, 3, S, S]`` in [-1, 1] to latents ``[N, C, h, w]``, without randomness."""


class CaptionEncoder(Protocol):
    """A tokenizer and text encoders; their weights load on the first :meth:`encode`."""

    @property
    def fingerprint(self) -> str:
        """Equal only where equal captions give equal states; reading it loads no weights."""

    def encode(self, captions: list[str]) -> dict[str, Tensor]:
        """N captions to named states ``[N, ...]``, of shapes that do not depend on the captions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedData:
    """A data set as tensors on the CPU; a sample is picked by indexing.

    Attributes:
        latents: ``[n_images, n_variants, C, h, w]``.
        captions: Named states ``[n_unique_captions + 1, ...]``; the last row is the empty caption.
        caption_index: ``[n_images]`` int64, the row of each image's caption.
        records: The images, in the order of the rows.
    """

    latents: Tensor
    captions: dict[str, Tensor]
    caption_index: Tensor
    records: tuple[Record, ...]


def encode_data(
    records: Sequence[Record],
    data: DataConfig,
    *,
    images: ImageEncoder,
    captions: CaptionEncoder,
    cache: TensorCache,
    dtype: torch.dtype,
    log: Log | None = None,
) -> EncodedData:
    """All variants of all images, and all captions, from the cache where they are in it.

    Args:
        records: Checked images, at least one.
        data: The transform; for held-out images pass :func:`lora_foundry.data.checks.validation_view` of it.
        images: Called only for what the cache lacks.
        captions: Called only for what the cache lacks.
        cache: Read and filled.
        dtype: Of latents and floating text states.
        log: Takes lines of progress.

    Raises:
        DataError: When an image changed since the checks, or a result is not finite.
        ValueError: When there are no records.
        OSError: When the cache cannot be written.
    """
    if not records:
        raise ValueError("got no records, allowed is at least one")
    latents = encode_images(records, data, images=images, cache=cache, dtype=dtype, log=log)
    unique = sorted({record.caption for record in records} - {_EMPTY})
    row = {caption: index for index, caption in enumerate([*unique, _EMPTY])}
    return EncodedData(
        latents=latents,
        captions=encode_captions([*unique, _EMPTY], captions=captions, cache=cache, dtype=dtype, log=log),
        caption_index=torch.tensor([row[record.caption] for record in records], dtype=torch.int64),
        records=tuple(records),
    )


def encode_captions(
    prompts: Sequence[str],
    *,
    captions: CaptionEncoder,
    cache: TensorCache,
    dtype: torch.dtype,
    log: Log | None = None,
) -> dict[str, Tensor]:
    """Text states of ``prompts`` (repeats allowed), one row each: ``{name: [len(prompts), ...]}``.

    Raises:
        DataError: When a result is not finite.
        ValueError: When there are no prompts.
    """
    if not prompts:
        raise ValueError("got no prompts, allowed is at least one")
    keys = {text: caption_key(text, fingerprint=captions.fingerprint, dtype=dtype) for text in prompts}
    states = {text: found for text, key in keys.items() if (found := cache.get(key)) is not None}
    missing = [text for text in keys if text not in states]
    report = _Progress("text states", total=len(keys), missing=len(missing), log=log)
    with ThreadPoolExecutor(_THREADS) as pool:
        for texts in _shared_out(missing, _ROWS):
            states.update((text, found) for text in texts if (found := cache.get(keys[text])) is not None)
            if chunk := [text for text in texts if text not in states]:
                encoded = captions.encode(_filled(chunk, _ROWS))
                for index, text in enumerate(chunk):
                    states[text] = {name: _stored(rows[index], dtype, repr(text)) for name, rows in encoded.items()}
                list(pool.map(lambda text: cache.put(keys[text], states[text]), chunk))
            report.advance(len(texts))
    names = states[prompts[0]].keys()
    return {name: torch.stack([states[text][name] for text in prompts]) for name in names}


def encode_images(
    records: Sequence[Record],
    data: DataConfig,
    *,
    images: ImageEncoder,
    cache: TensorCache,
    dtype: torch.dtype,
    log: Log | None = None,
) -> Tensor:
    """Latents ``[n_images, n_variants, C, h, w]``; see :func:`encode_data`."""
    wanted = variants(data)
    keys = [
        [image_key(record.digest, data, variant, fingerprint=images.fingerprint, dtype=dtype) for variant in wanted]
        for record in records
    ]
    found: dict[str, Tensor] = {}
    work: dict[str, tuple[Record, Variant]] = {}
    for record, row in zip(records, keys, strict=True):
        for key, variant in zip(row, wanted, strict=True):
            if key in found or key in work:
                continue
            entry = cache.get(key)
            if entry is None:
                work[key] = (record, variant)
            else:
                found[key] = entry["latents"]
    report = _Progress("latents", total=len(found) + len(work), missing=len(work), log=log)
    rows = max(1, min(_ROWS, _PIXELS // data.resolution**2))
    with ThreadPoolExecutor(_THREADS) as pool:
        for wanted_keys in _shared_out(list(work), rows):
            found.update((key, entry["latents"]) for key in wanted_keys if (entry := cache.get(key)) is not None)
            if chunk := [key for key in wanted_keys if key not in found]:
                pixels = list(pool.map(lambda key: _pixels(work[key], data), chunk))
                encoded = images.encode(torch.stack(_filled(pixels, rows)))
                for index, key in enumerate(chunk):
                    found[key] = _stored(encoded[index], dtype, str(work[key][0].image))
                list(pool.map(lambda key: cache.put(key, {"latents": found[key]}), chunk))
            report.advance(len(wanted_keys))
    return torch.stack([torch.stack([found[key] for key in row]) for row in keys])


def _pixels(job: tuple[Record, Variant], data: DataConfig) -> Tensor:
    record, variant = job
    return load_pixels(record.image, data, variant, digest=record.digest)


def _shared_out(items: list[T], rows: int) -> list[list[T]]:
    """``items`` in batches, in an order of this process's own.

    The workers of a farm begin a sweep together and lack the same entries: each looks again before a batch, and as no
    two take the batches in the same order, they share the work without knowing of each other.
    """
    chunks = [items[start : start + rows] for start in range(0, len(items), rows)]
    random.SystemRandom().shuffle(chunks)
    return chunks


def _filled(items: list[T], rows: int) -> list[T]:
    """``items``, the last repeated, as exactly ``rows``.

    Kernels round differently at other row counts, and an entry must not depend on how many were missing with it.
    """
    return items + [items[-1]] * (rows - len(items))


def _stored(tensor: Tensor, dtype: torch.dtype, what: str) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().cpu().clone()
    plain = tensor.detach().to("cpu", dtype, copy=True)
    if not bool(torch.isfinite(plain).all()):
        raise DataError([f"{what}: its encoding is not finite; encode in a wider dtype (the base may be damaged)"])
    return plain


class _Progress:
    """Lines for a log, at most one in :data:`_LOG_S` seconds besides the first."""

    def __init__(self, what: str, *, total: int, missing: int, log: Log | None) -> None:
        self._what, self._missing, self._done, self._log = what, missing, 0, log
        self._last = time.monotonic()
        if log is not None:
            log(f"{what}: {total - missing} of {total} in the cache, {missing} to compute")

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._log is not None and (now - self._last >= _LOG_S or self._done == self._missing):
            self._last = now
            self._log(f"{self._what}: {self._done} of {self._missing} computed")
