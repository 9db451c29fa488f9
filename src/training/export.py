"""From a member in training to files that load everywhere, checked before they count."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from src.config.streams import stream_key
from src.lora.formats.adapter import Adapter, ExportError, LoraWeights, effective_alpha
from src.lora.formats.apply import apply_adapter
from src.lora.formats.check import check_written
from src.lora.formats.diffusers_file import write_diffusers
from src.lora.formats.kohya import write_kohya
from src.lora.formats.metadata import FileMetadata
from src.lora.formats.read import read_adapter
from src.lora.formats.sidecar import write_sidecar
from src.lora.rows import RowPlan
from src.objectives.noise import sample_noise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from src.training.member import Member
    from src.training.pack import Pack

_FILE_DTYPE = torch.float16
# Base + file against the live adapter rounded as the file is: what is left is the readers' own arithmetic. A bf16
# base rounds its merged weights and outputs an order more coarsely.
_TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 2e-2}
# What fp16 itself does to the outputs is no fault of the file; above this the user is told.
ROUNDING_TOLD = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The files of one adapter.

    Attributes:
        kohya: For people's readers.
        diffusers: For code.
        rounding: How far the file's dtype moves the base's outputs from the live adapter's, relative.
    """

    kohya: Path
    diffusers: Path
    rounding: float

    @property
    def size(self) -> int:
        """Bytes of the kohya file."""
        return self.kohya.stat().st_size


def export(pack: Pack, member: Member, folder: Path, stem: str) -> Exported:
    """Write ``<stem>.safetensors`` (kohya), ``<stem>.diffusers.safetensors`` and ``<stem>.json``, and check them.

    Raises:
        ExportError: When a value does not fit the file's dtype, a file reads back otherwise than written, or
            base + file does not give the live adapter's outputs.
        OSError: When the disk is full or the folder cannot be written.
    """
    adapter, meta = live_adapter(pack, member), file_metadata(pack, member)
    kohya, diffusers = folder / f"{stem}.safetensors", folder / f"{stem}.diffusers.safetensors"
    write_kohya(kohya, adapter, meta, _FILE_DTYPE)
    write_diffusers(diffusers, adapter, meta, _FILE_DTYPE)
    write_sidecar(folder / f"{stem}.json", meta)
    live = _probe(pack, member, live=True)
    with _rounded(pack, member):
        expected = _probe(pack, member, live=True)
    for path in (kohya, diffusers):
        check_written(path, adapter)
        with apply_adapter(pack.denoiser.module, read_adapter(path, _layer_names(pack))):
            error = _apart(_probe(pack, member, live=False), expected)
        allowed = _TOLERANCE[pack.dtypes.base]
        if not error < allowed:
            msg = (
                f"{path}: base and file differ from the live adapter by {error:.2e} (relative), "
                f"allowed is under {allowed:g}"
            )
            raise ExportError(msg)
    return Exported(kohya=kohya, diffusers=diffusers, rounding=_apart(expected, live))


@contextmanager
def _rounded(pack: Pack, member: Member) -> Iterator[None]:
    """The member's weights in the file's dtype for the time being."""
    row = pack.bank.weights[pack.bank.place(member.name)]
    kept = row.clone()
    try:
        row.copy_(row.to(_FILE_DTYPE))
        yield
    finally:
        row.copy_(kept)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp_min(1e-12))


def live_adapter(pack: Pack, member: Member) -> Adapter:
    """The member's adapter as it is now, in the neutral form of the file formats."""
    lora = member.config.lora
    alpha = effective_alpha(lora.alpha, lora.rank, use_rslora=lora.use_rslora)
    state = pack.bank.state(member.name)
    modules: dict[str, LoraWeights] = {}
    for key in state:
        if key.endswith(".A"):
            name = key.removesuffix(".A")
            down, up = state[key], state[f"{name}.B"].transpose(0, 1).contiguous()
            shaped = up if down.ndim == 2 else up[..., None, None]  # linear or convolution
            modules[name] = LoraWeights(down=down, up=shaped, alpha=alpha)
    return Adapter(unet=modules)


def start_from(pack: Pack, member: Member, path: Path) -> None:
    """Set the member's weights to those of an adapter file, at the job's own alpha.

    Raises:
        ExportError: When the file has other targets or another rank than the job.
        src.lora.formats.adapter.AdapterFileError: When the file cannot be read.
    """
    lora = member.config.lora
    scale = effective_alpha(lora.alpha, lora.rank, use_rslora=lora.use_rslora) / lora.rank
    adapter = read_adapter(path, _layer_names(pack))
    row = pack.bank.weights[pack.bank.place(member.name)]
    wanted = {key.removesuffix(".A") for key in pack.bank.unpack(row, member.name) if key.endswith(".A")}
    ranks = {weights.rank for weights in adapter.unet.values()}
    if adapter.text_encoder or adapter.text_encoder_2 or wanted != set(adapter.unet) or ranks != {lora.rank}:
        odd = sorted(wanted ^ set(adapter.unet))
        msg = (
            f"lora.init_from={path}: got ranks {sorted(ranks)} over {len(adapter.unet)} UNet layers"
            f"{' and text-encoder layers' if adapter.text_encoder else ''}, allowed is rank {lora.rank} over the "
            f"{len(wanted)} layers of lora.target_modules{f' (first that differs: {odd[0]})' if odd else ''}"
        )
        raise ExportError(msg)
    tensors: dict[str, Tensor] = {}
    for name, weights in adapter.unet.items():
        tensors[f"{name}.A"] = weights.down
        tensors[f"{name}.B"] = weights.up.flatten(1).transpose(0, 1).double() * (weights.scale / scale)
    try:
        pack.bank.fill(row, tensors, member.name)
    except ValueError as error:
        msg = f"lora.init_from={path} does not fit this base: {error}"
        raise ExportError(msg) from error


def file_metadata(pack: Pack, member: Member) -> FileMetadata:
    """What the files say of themselves."""
    config, count = member.config, len(member.train.records)
    return FileMetadata(
        base_version=config.model.version,
        base_name=config.model.name,
        prediction_type=pack.denoiser.prediction_type,
        resolution=config.data.resolution,
        train_images=count,
        started_at=member.provenance.started_at,
        network_args=dataclasses.asdict(config.lora),
        dataset_dirs={config.data.name: count},
        tag_frequency={config.data.name: _frequencies(member)},
        trigger_phrase=config.data.caption_prefix.strip(),
        description=(
            f"rank {config.lora.rank}, alpha {config.lora.alpha:g}, {member.count.step} steps, {member.samples} samples"
        ),
        notes=f"base {member.provenance.base_hash[:16]}, data {member.provenance.data_hash[:16]}",
    )


def _frequencies(member: Member) -> dict[str, int]:
    counted: dict[str, int] = {}
    for record in member.train.records:
        counted[record.caption] = counted.get(record.caption, 0) + 1
    return counted


def _layer_names(pack: Pack) -> list[str]:
    return list(pack.denoiser.layers)


@torch.no_grad()
@torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # TF32 rounds by up to the tolerance
def _probe(pack: Pack, member: Member, *, live: bool) -> Tensor:
    """Two fixed noisy rows through the base, with the live adapter or with whatever is merged into it now."""
    denoiser, shape = pack.denoiser, member.train.latents.shape[2:]
    noisy = torch.stack([sample_noise(shape, stream_key(0, "probe", i), pack.dtypes.adapter) for i in range(2)])
    timesteps = torch.tensor([denoiser.n_train_timesteps // 4, denoiser.n_train_timesteps * 3 // 4])
    states = {name: values[[0, -1]] for name, values in member.train.captions.items()}
    if live:
        with pack.bank.rows(RowPlan(places=(pack.bank.place(member.name),), counts=(2,))):
            return denoiser.denoise(noisy, timesteps, states).double()
    return denoiser.denoise(noisy, timesteps, states).double()
