"""What is taken between the steps: by encoding, validation and drawing, each at its least.

None of it keeps anything for a backward pass, and each takes fewer rows when memory runs out, down to one row or one
picture. What is alive then, beside what stays, is traced as a step is: a forward pass of the base, and the networks
that encode and decode, which are in fp32. A card has those only while they are used, and no base yet when the first
pack's images are encoded. On a CPU the one that decodes waits in the same memory.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lora_foundry.config.files import write_json
from lora_foundry.memory.libraries import NOTHING, Beside
from lora_foundry.memory.predict import Needs, curve_of, kept_at, together
from lora_foundry.memory.scratch import Alive
from lora_foundry.models.opening import open_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lora_foundry.config import JobConfig
    from lora_foundry.config.doing import Doing
    from lora_foundry.memory.predict import Curve
    from lora_foundry.models.protocol import BaseSizes

_WIDE = ("32-true", "64-true")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """What the networks beside the base take, one picture at a time.

    Attributes:
        encoders: Bytes of the weights of those that encode images and captions, which are on the device together.
        encoding: Alive beside them.
        decoder: Bytes of the weights of the one that decodes.
        decoding: Alive beside it.
    """

    encoders: int
    encoding: Alive
    decoder: int
    decoding: Alive


def pictures_of(config: JobConfig) -> Pictures:
    """The pictures of ``config``'s size, from the cache or traced now (a second).

    Raises:
        lora_foundry.models.protocol.BaseError: When the base's configs are missing.
    """
    sizes = open_sizes(config.model)
    path = _path(config, sizes)
    known = _read(path)
    if known is not None:
        return known
    from lora_foundry.memory.trace_pictures import TracedPictures  # a kept trace is served without torch

    traced = TracedPictures(sizes, config.data.resolution)
    pictures = Pictures(
        encoders=traced.encoders, encoding=traced.encoding, decoder=traced.decoder, decoding=traced.decoding
    )
    write_json(path, dataclasses.asdict(pictures))
    return pictures


def are_known(config: JobConfig) -> bool:
    """Whether :func:`pictures_of` answers at once."""
    return _read(_path(config, open_sizes(config.model))) is not None


def peaks_of(
    curves: Sequence[Curve],
    pictures: Pictures,
    configs: Sequence[JobConfig],
    beside: Beside = NOTHING,
    cpu_threads: int | None = None,
) -> list[Needs]:
    """What a pack of jobs takes in a step, all rows in one forward, and then in all else that it does.

    Args:
        curves: Of each of ``configs``.
        pictures: Of their size.
        configs: Of its members.
        beside: What the process takes beside its tensors.
        cpu_threads: Of torch where it trains on a CPU; null for a GPU.
    """
    step = together(curves, configs, beside, cpu_threads)
    waiting = waits(pictures, configs, on_cpu=cpu_threads is not None)
    encoding = replace(step, weights=0, adapters=0, gradients=0, optimizer=0, copies=0)  # nothing else is there yet
    peaks = [replace(step, others=waiting), _at(pictures.encoding, "encoding", pictures.encoders, encoding, beside)]
    forward = replace(step, copies=0)  # of one member, whose copy the trace has
    scored = _largest([curve.forward for curve in curves], curves, configs)
    peaks.append(_at(scored, "validation", waiting, forward, beside))
    drawing = [(curve, config) for curve, config in zip(curves, configs, strict=True) if config.sample.enabled]
    if drawing:
        rows = [curve.forward if config.sample.guidance == 1 else curve.guided for curve, config in drawing]
        peaks.append(_at(_largest(rows, curves, configs), "drawing", waiting, forward, beside))
        decoding = replace(step, copies=max(_copies(curves, configs)))  # of who drew last
        peaks.append(_at(pictures.decoding, "drawing", pictures.decoder, decoding, beside))
    return peaks


def _at(alive: Alive, doing: Doing, others: int, stays: Needs, beside: Beside) -> Needs:
    kept = int(alive.inside * beside.kept_share)
    return replace(stays, doing=doing, others=others, activations=alive.inside, kept=kept)


def most_of(config: JobConfig, *, members: int = 1, beside: Beside = NOTHING) -> Needs:
    """The largest of what a pack of ``members`` jobs like ``config`` takes at a time, on a card of today.

    Raises:
        lora_foundry.models.protocol.BaseError: When the base's configs are missing.
        ValueError: When a target is not in the base.
    """
    peaks = peaks_of([curve_of(config, alone=members == 1)] * members, pictures_of(config), [config] * members, beside)
    return max(peaks, key=lambda needs: needs.total)


def waits(pictures: Pictures, configs: Sequence[JobConfig], *, on_cpu: bool) -> int:
    """Bytes of the network that decodes, where it waits beside steps until pictures are drawn again."""
    return pictures.decoder if on_cpu and any(config.sample.enabled for config in configs) else 0


def _largest(rows: Sequence[Alive], curves: Sequence[Curve], configs: Sequence[JobConfig]) -> Alive:
    """The largest of members' forward passes, or the step's copies of all, whose place one member's takes."""
    largest, copies = max(rows, key=lambda alive: alive.inside), sum(_copies(curves, configs))
    return Alive(tensors=max(largest.tensors, copies), inside=max(largest.inside, copies))


def _copies(curves: Sequence[Curve], configs: Sequence[JobConfig]) -> list[int]:
    """Bytes of each member's copy in 16 bits."""
    wide = configs[0].trainer.precision in _WIDE
    return [0 if wide else curve.floats * curve.adapter_bytes // 2 for curve in curves]


def _path(config: JobConfig, sizes: BaseSizes) -> Path:
    return kept_at(config, {"pictures": config.data.resolution, "base": sizes.fingerprint})


def _read(path: Path) -> Pictures | None:
    try:
        values = json.loads(path.read_text())
        alive = {name: Alive(**values[name]) for name in ("encoding", "decoding")}
        return Pictures(**values | alive)
    except (OSError, ValueError, TypeError, KeyError):
        return None
