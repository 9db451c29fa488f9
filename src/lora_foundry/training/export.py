"""From a member in training to files that load everywhere, checked before they count."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lora_foundry.config.components import split_name
from lora_foundry.config.digest import config_digest
from lora_foundry.lora.bank import by_layer
from lora_foundry.lora.formats.adapter import Adapter, ExportError, LoraWeights
from lora_foundry.lora.formats.apply import apply_adapter
from lora_foundry.lora.formats.check import check_written
from lora_foundry.lora.kinds import kind_choice
from lora_foundry.lora.rows import RowPlan
from lora_foundry.training.precision import exact
from lora_foundry.training.shortage import in_fewer_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from lora_foundry.lora.formats.metadata import FileMetadata
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack

_FILE_DTYPE = torch.float16
# Base + file against the live adapter rounded as the file is: what is left is the readers' own arithmetic. A bf16
# base rounds its merged weights and outputs an order more coarsely; fp16 has three bits more.
_TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 4e-3, torch.bfloat16: 2e-2}
# What fp16 itself does to the outputs is no fault of the file; above this the user is told.
ROUNDING_TOLD = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """What the base gives for a member's fixed rows with a live adapter.

    Attributes:
        exact: With the adapter as it is.
        rounded: With the adapter's weights in the file's dtype, which a file has to reproduce.
    """

    exact: Tensor
    rounded: Tensor

    @property
    def finite(self) -> bool:
        """Whether the base gives numbers with the adapter as it is."""
        return bool(self.exact.isfinite().all())


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """One adapter, written and checked.

    Attributes:
        file: For people's programs.
        for_code: For code.
        card: What programs show of it.
        rounding: How far the file's dtype moves the base's outputs from the live adapter's, relative.
    """

    file: Path
    for_code: Path
    card: Path
    rounding: float

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.file.stat().st_size


def export(pack: Pack, member: Member, folder: Path, stem: str, outputs: Outputs | None = None) -> Exported:
    """Let the task write the files of the member's adapter, and check them.

    Args:
        pack: With the base and the live adapter.
        member: Whose adapter it is.
        folder: Where the files go.
        stem: What they are called.
        outputs: Of :func:`live_outputs`, where they were made with those of others.

    Raises:
        ExportError: When a value does not fit the file's dtype, a file reads back otherwise than written, or
            base + file does not give the live adapter's outputs.
        OSError: When the disk is full or the folder cannot be written.
    """
    adapter = live_adapter(pack, member)
    files = pack.task.write(folder, stem, adapter, file_metadata(pack, member), _FILE_DTYPE)
    live = outputs or live_outputs(pack, [member])[member.name]
    allowed, tried = _TOLERANCE[pack.dtypes.base], None
    for path in (files.file, files.for_code):
        in_file = check_written(path, adapter, _layer_names(pack))
        if tried is not None and _same(in_file, tried):
            continue  # the same numbers for the same layers, which were tried just now
        tried = in_file
        first, *_ = networks = pack.base.components
        encoders = (networks.get("text_encoder"), networks.get("text_encoder_2"))
        with apply_adapter(networks[first], in_file, text_encoder=encoders[0], text_encoder_2=encoders[1]):
            error = _apart(_of_merged(pack, member), live.rounded)
        if not error < allowed:
            msg = (
                f"{path}: base and file differ from the live adapter by {error:.2e} (relative), "
                f"allowed is under {allowed:g}"
            )
            raise ExportError(msg)
    rounding = _apart(live.rounded, live.exact)
    return Exported(file=files.file, for_code=files.for_code, card=files.card, rounding=rounding)


def live_outputs(pack: Pack, members: Sequence[Member]) -> dict[str, Outputs]:
    """What a file of each of ``members`` is held against, by name; they share forwards."""

    def with_most(most: int) -> list[Tensor]:
        groups = [members[first : first + most] for first in range(0, len(members), most)]
        with pack.wary(unless=most == 1):
            return [rows for group in groups for rows in _of_live(pack, group)]

    places = [pack.bank.place(member.name) for member in members]
    exact, most = in_fewer_rows(with_most, len(members), pack.device)
    kept = pack.bank.weights[places].clone()
    try:
        pack.bank.weights[places] = kept.to(_FILE_DTYPE).to(kept.dtype)
        rounded, _ = in_fewer_rows(with_most, most, pack.device)
    finally:
        pack.bank.weights[places] = kept
    return {
        member.name: Outputs(exact=one, rounded=other)
        for member, one, other in zip(members, exact, rounded, strict=True)
    }


def _same(one: Adapter, other: Adapter) -> bool:
    """Whether both are the same update of the same modules, a scale being in the up of one rounded with it."""
    ours, theirs = ({(c, name): weights for c, name, weights in adapter.modules()} for adapter in (one, other))
    return ours.keys() == theirs.keys() and all(_same_update(weights, theirs[key]) for key, weights in ours.items())


def _same_update(one: LoraWeights, other: LoraWeights) -> bool:
    if one.dora_scale is not None or other.dora_scale is not None or not torch.equal(one.down, other.down):
        return False
    ours, theirs = one.up.float() * one.scale, other.up.float() * other.scale
    # Each was rounded once; where numbers are smallest, by half of the smallest step.
    rounding = torch.finfo(_FILE_DTYPE)
    smallest = rounding.smallest_normal * rounding.eps
    return torch.allclose(ours, theirs, rtol=rounding.eps, atol=smallest * max(abs(one.scale), abs(other.scale)))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp_min(1e-12))


def live_adapter(pack: Pack, member: Member) -> Adapter:
    """The member's adapter as it is now, in the neutral form of the file formats."""
    lora = member.config.lora
    kind, layers = kind_choice(lora.kind), by_layer(pack.bank.state(member.name))
    networks = list(pack.base.components)
    found: dict[str, dict[str, LoraWeights]] = {}
    for name, parts in layers.items():
        component, inner = split_name(networks, name)
        found.setdefault(component, {})[inner] = kind.written(parts, lora)
    return Adapter(unet=found.pop(networks[0], {}), **found)


def file_metadata(pack: Pack, member: Member) -> FileMetadata:
    """What the files say of themselves."""
    config, made = member.config, member.provenance
    lora = dataclasses.asdict(config.lora)
    return dataclasses.replace(
        pack.task.file_metadata(member, started_at=made.started_at),
        network_args=lora | lora.pop("options"),
        description=(
            f"rank {config.lora.rank}, alpha {config.lora.alpha:g}, {member.count.step} steps, {member.samples} samples"
        ),
        notes=f"base {made.base_hash[:16]}, data {made.data_hash[:16]}",
        job=_job(member),
    )


def _job(member: Member) -> str:
    """The same for a job that is trained again: its name, configuration and base decide it."""
    decides = f"{member.name}\0{config_digest(member.config)}\0{member.provenance.base_hash}"
    return hashlib.sha256(decides.encode()).hexdigest()


def _layer_names(pack: Pack) -> list[str]:
    """Those that kohya's underscores stand for in the network that the base predicts with."""
    first, *_ = networks = list(pack.base.components)
    return [name for name in pack.base.layers if split_name(networks, name)[0] == first]


@torch.no_grad()
@exact()  # TF32 rounds by up to the tolerance
def _of_live(pack: Pack, members: Sequence[Member]) -> list[Tensor]:
    """A few fixed rows of each member through the base with its live adapter."""
    probes = [pack.task.probe(member, pack.dtypes.adapter) for member in members]
    inputs = {name: torch.cat([probe[name] for probe in probes]) for name in probes[0]}
    counts = tuple(len(next(iter(probe.values()))) for probe in probes)
    places = tuple(pack.bank.place(member.name) for member in members)
    with pack.bank.rows(RowPlan(places=places, counts=counts)):
        return list(pack.task.outputs(inputs).double().split(counts))


@torch.no_grad()
@exact()
def _of_merged(pack: Pack, member: Member) -> Tensor:
    """The same rows through the base with whatever is merged into it now."""
    return pack.task.outputs(pack.task.probe(member, pack.dtypes.adapter)).double()
