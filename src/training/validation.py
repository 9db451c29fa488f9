"""A validation loss that means something.

Held-out images x stratified timesteps x fixed noise: the same rows for every run whatever its rank, batch,
seed or device, so that two numbers differ by what the adapters learned and by nothing else. Divided by the
base's own loss on the same rows it is below 1 where the adapter is better than none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.config.streams import stream_key
from src.data.cache import digest_of, key_of
from src.lora.rows import RowPlan
from src.models.sampling import rows_of_a_forward
from src.objectives.losses import mse_per_sample
from src.objectives.noise import add_noise, sample_noise
from src.objectives.targets import prediction_target
from src.objectives.timesteps import bands, stratified_timesteps
from src.training.shortage import in_fewer_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from src.config.schema_results import ValidationConfig
    from src.data.encoding import EncodedData
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
        by_band: The mean in each band of timesteps, by ``t<low>_<high>``.
    """

    loss: float
    relative: float
    by_band: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """As logged."""
        named = {f"val/loss_{band}": value for band, value in self.by_band.items()}
        return {"val/loss": self.loss, "val/loss_rel": self.relative, **named}


class FixedRows:
    """The V rows that everything is judged on: each image at each timestep.

    Args:
        data: Encoded held-out images; the first variant of each is used.
        config: How many images and timesteps.
        n_train_timesteps: Of the base.
        dtype: Dtype of latents and noise.
    """

    def __init__(
        self, data: EncodedData, config: ValidationConfig, *, n_train_timesteps: int, dtype: torch.dtype
    ) -> None:
        by_digest = sorted(range(len(data.records)), key=lambda i: (data.records[i].digest, data.records[i].caption))
        images = by_digest[: config.max_images]
        steps = stratified_timesteps(min(config.timesteps, n_train_timesteps), n_train_timesteps)
        pairs = [(image, step) for image in images for step in steps]
        rows = [image for image, _ in pairs]
        self.latents = data.latents[rows, 0].to(dtype)
        self.timesteps = torch.tensor([step for _, step in pairs])
        self.noise = torch.stack(
            [
                sample_noise(
                    self.latents.shape[1:],
                    stream_key(
                        _NOISE_SEED, "validation", data.records[image].digest, data.records[image].caption, step
                    ),
                    dtype,
                )
                for image, step in pairs
            ]
        )
        texts = data.caption_index[rows]
        self.conditioning = {name: states[texts].to(dtype) for name, states in data.captions.items()}
        self.per_forward = config.batch_rows or rows_of_a_forward(self.latents.shape[-2] * self.latents.shape[-1])
        self.bands = {f"t{b.low:03d}_{b.high:03d}": (b.low, b.high) for b in bands(n_train_timesteps)}

    def __len__(self) -> int:
        return len(self.timesteps)

    def digest(self) -> str:
        """Hex digest of everything in the rows that decides their losses."""
        return digest_of(
            {"latents": self.latents, "timesteps": self.timesteps, "noise": self.noise, **self.conditioning}
        )


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
                n_train_timesteps=self._pack.denoiser.n_train_timesteps,
                dtype=self._pack.dtypes.adapter,
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

        latents, noise, timesteps = repeat(rows.latents), repeat(rows.noise), repeat(rows.timesteps)
        conditioning = {name: repeat(states).to(base) for name, states in rows.conditioning.items()}
        alphas = pack.denoiser.alphas_cumprod
        noisy = add_noise(latents, noise, timesteps, alphas).to(base)
        if members:
            places = tuple(pack.bank.place(member.name) for member in members)
            plan = RowPlan(places=places, counts=(len(timesteps) // copies,) * copies)
            with pack.bank.rows(plan):
                prediction = pack.denoiser.denoise(noisy, timesteps, conditioning)
        else:
            prediction = pack.denoiser.denoise(noisy, timesteps, conditioning)
        target = prediction_target(pack.denoiser.prediction_type, latents, noise, timesteps, alphas)
        return mse_per_sample(prediction.to(latents.dtype), target)


def _score(rows: FixedRows, losses: Tensor, base: Tensor) -> Score:
    by_band: dict[str, float] = {}
    for name, (low, high) in rows.bands.items():
        inside = (rows.timesteps >= low) & (rows.timesteps < high)
        if inside.any():
            by_band[name] = float(losses[inside].mean())
    return Score(loss=float(losses.mean()), relative=float(losses.mean() / base.mean()), by_band=by_band)


def device_name(device: torch.device) -> str:
    """What results that depend on the hardware are kept by."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
