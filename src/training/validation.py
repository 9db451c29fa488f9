"""A validation loss that means something.

Held-out images x noise levels that stand for all x fixed noise: the same rows for every run whatever its rank, batch,
seed or device, so that two numbers differ by what the adapters learned and by nothing else. Divided by the
base's own loss on the same rows it is below 1 where the adapter is better than none.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.config.streams import stream_key
from src.data.cache import digest_of, key_of
from src.lora.rows import RowPlan
from src.models.sampling import rows_of_a_forward
from src.objectives.noise import sample_noise
from src.objectives.process import denoising_losses
from src.training.shortage import in_fewer_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from src.config.schema_results import ValidationConfig
    from src.data.encoding import EncodedData
    from src.objectives.process import NoiseProcess
    from src.training.member import Member
    from src.training.pack import Pack

_LOG = logging.getLogger(__name__)
_NOISE_SEED = 0  # not the job's: every job of every sweep is judged on the same noise


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A member's losses on the fixed rows.

    Attributes:
        loss: Mean squared error over all rows.
        relative: ``loss`` divided by the base's own.
        by_band: The mean in each band of noise levels, by ``t<low>_<high>``.
    """

    loss: float
    relative: float
    by_band: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """As logged."""
        named = {f"val/loss_{band}": value for band, value in self.by_band.items()}
        return {"val/loss": self.loss, "val/loss_rel": self.relative, **named}


class FixedRows:
    """The V rows that everything is judged on: each image at each noise level.

    Args:
        data: Encoded held-out images; the first variant of each is used.
        config: How many images and levels.
        process: Of the base.
        dtype: Dtype of latents and noise.
    """

    def __init__(self, data: EncodedData, config: ValidationConfig, process: NoiseProcess, dtype: torch.dtype) -> None:
        by_digest = sorted(range(len(data.records)), key=lambda i: (data.records[i].digest, data.records[i].caption))
        images = by_digest[: config.max_images]
        pairs = [(image, level) for image in images for level in process.strata(config.timesteps)]
        rows = [image for image, _ in pairs]
        self.latents = data.latents[rows, 0].to(dtype)
        self.levels = torch.tensor([level for _, level in pairs])
        self.noise = torch.stack(
            [
                sample_noise(
                    self.latents.shape[1:],
                    stream_key(
                        _NOISE_SEED, "validation", data.records[image].digest, data.records[image].caption, str(level)
                    ),
                    dtype,
                )
                for image, level in pairs
            ]
        )
        texts = data.caption_index[rows]
        self.conditioning = {name: states[texts].to(dtype) for name, states in data.captions.items()}
        self.per_forward = config.batch_rows or rows_of_a_forward(self.latents.shape[-2] * self.latents.shape[-1])
        self.bands = process.bands()

    def __len__(self) -> int:
        return len(self.levels)

    def digest(self) -> str:
        """Hex digest of everything in the rows that decides their losses."""
        return digest_of({"latents": self.latents, "timesteps": self.levels, "noise": self.noise, **self.conditioning})


class Validator:
    """Scores members of one pack; the base's own loss is computed once a set of rows."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._rows: dict[tuple[int, ValidationConfig], FixedRows] = {}
        self._data: dict[int, EncodedData] = {}  # held, or a later member's data might get the id of one that has left
        self._base: dict[tuple[int, ValidationConfig], Tensor] = {}

    def score(self, members: Sequence[Member]) -> dict[str, Score]:
        """The scores of ``members`` by name; members with the same rows are scored in the same forwards."""
        groups: dict[tuple[int, ValidationConfig], list[Member]] = {}
        for member in members:
            self._data[id(member.validation)] = member.validation
            groups.setdefault((id(member.validation), member.config.validation), []).append(member)
        scores: dict[str, Score] = {}
        for key, group in groups.items():
            rows = self._fixed_rows(key, group[0])
            if key not in self._base:
                self._base[key] = self._base_losses(rows, group[0])
            trained = [member for member in group if not self._pack.bank.is_zero(member.name)]
            losses = dict(zip((m.name for m in trained), self._losses(rows, trained), strict=True)) if trained else {}
            for member in group:  # an adapter that is still zero gives the base's own outputs
                scores[member.name] = _score(rows, losses.get(member.name, self._base[key]), self._base[key])
        return scores

    def _fixed_rows(self, key: tuple[int, ValidationConfig], member: Member) -> FixedRows:
        if key not in self._rows:
            self._rows[key] = FixedRows(
                member.validation,
                key[1],
                self._pack.denoiser.process,
                self._pack.dtypes.adapter,
            )
        return self._rows[key]

    def _base_losses(self, rows: FixedRows, member: Member) -> Tensor:
        """The base's losses on ``rows``, from the cache where another pack has computed them."""
        if member.cache is None:
            return self._losses(rows, [])[0]
        pack = self._pack
        key = key_of(
            {
                "kind": "base losses",
                "base": member.provenance.base_hash,
                "rows": rows.digest(),
                "scheduler": dict(pack.denoiser.scheduler_config),
                "dtypes": [str(pack.dtypes.base), str(pack.dtypes.adapter)],
                "device": device_name(pack.device),
                "torch": torch.__version__,
            }
        )
        kept = member.cache.get(key)
        if kept is not None:
            return kept["losses"]
        losses = self._losses(rows, [])[0]
        if bool(losses.isfinite().all()):
            try:
                member.cache.put(key, {"losses": losses})
            except OSError as error:  # nothing is lost but time: the next pack computes them again
                _LOG.warning("the base's validation losses were not kept: %s", error)
        return losses

    def _losses(self, rows: FixedRows, members: Sequence[Member]) -> Tensor:
        """``[K, V]`` losses of the members, or ``[1, V]`` of the base where ``members`` is empty."""

        def with_most(most: int) -> Tensor:
            groups = [members[first : first + most] for first in range(0, len(members), most)] or [members]
            with self._pack.wary(unless=most == 1):
                return torch.cat([self._together(rows, group, most) for group in groups])

        losses, rows.per_forward = in_fewer_rows(with_most, rows.per_forward, self._pack.device)
        return losses

    @torch.no_grad()
    def _together(self, rows: FixedRows, members: Sequence[Member], most: int) -> Tensor:
        copies = max(1, len(members))
        chunk = most // copies
        parts = [
            self._chunk(rows, slice(first, first + chunk), members).view(copies, -1)
            for first in range(0, len(rows), chunk)
        ]
        return torch.cat(parts, dim=1).double().cpu()

    def _chunk(self, rows: FixedRows, part: slice, members: Sequence[Member]) -> Tensor:
        pack, copies = self._pack, max(1, len(members))
        pack.end_if_stopped()
        device, base = pack.device, pack.dtypes.base

        def repeat(values: Tensor) -> Tensor:
            return values[part].repeat(copies, *[1] * (values.ndim - 1)).to(device)

        latents, noise, levels = repeat(rows.latents), repeat(rows.noise), repeat(rows.levels)
        conditioning = {name: repeat(states).to(base) for name, states in rows.conditioning.items()}

        def denoise(noisy: Tensor, at: Tensor) -> Tensor:
            return pack.denoiser.denoise(noisy, at, conditioning)

        around: AbstractContextManager[None] = nullcontext()
        if members:
            places = tuple(pack.bank.place(member.name) for member in members)
            around = pack.bank.rows(RowPlan(places=places, counts=(len(levels) // copies,) * copies))
        with around:
            return denoising_losses(pack.denoiser.process, denoise, latents, noise, levels, dtype=base)


def _score(rows: FixedRows, losses: Tensor, base: Tensor) -> Score:
    by_band: dict[str, float] = {}
    for band in rows.bands:
        inside = (rows.levels >= band.low) & (rows.levels < band.high)
        if inside.any():
            by_band[band.label] = float(losses[inside].mean())
    return Score(loss=float(losses.mean()), relative=float(losses.mean() / base.mean()), by_band=by_band)


def device_name(device: torch.device) -> str:
    """What results that depend on the hardware are kept by."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
