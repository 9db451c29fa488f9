"""A member's checkpoint: one file that can be read alone, and a pack's manifest that ties them together.

A part holds the unpadded adapter, the optimizer's state and, in the middle of an accumulation, the
gradient so far; the counters are in the header. There are no generator states: everything random is a
function of the counters.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from lora_foundry.config.digest import config_digest
from lora_foundry.config.files import write_atomic, write_json
from lora_foundry.config.longer import digests_of, read_lengths
from lora_foundry.config.made_with import read_made_with
from lora_foundry.config.streams import STREAMS, drawn_otherwise
from lora_foundry.data.inventory import changes, read_inventory
from lora_foundry.training.member import Counters
from lora_foundry.training.pack_optimizer import OptimizerState

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack

_FORMAT = "lora-foundry/member/3"
# The first has no loss scale, the second no best adapters: what one does not have is as at the beginning.
_READ = ("lora-foundry/member/1", "lora-foundry/member/2", _FORMAT)
_KEPT = 2


class CheckpointError(ValueError):
    """No usable checkpoint; the message says what was found."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What a member's file holds.

    Attributes:
        weights: Unpadded adapter tensors by ``<layer>.A`` and ``<layer>.B``.
        gradients: The same keys; empty at the end of an accumulation.
        optimizer: The optimizer's state.
        count: The counters.
        made_with: Digests of the job's configuration, base and data, so that others are noticed.
        streams: Version of the random streams that it trained with.
    """

    weights: dict[str, Tensor]
    gradients: dict[str, Tensor]
    optimizer: OptimizerState
    count: Counters
    made_with: dict[str, str]
    streams: int


def save_member(pack: Pack, member: Member, folder: Path) -> Path:
    """Write ``<folder>/step-XXXXXXXX.safetensors`` atomically and keep the newest two.

    Raises:
        OSError: When the disk is full or the folder cannot be written; older files stay.
    """
    row = pack.bank.place(member.name)
    optimizer = pack.optimizer.state(member.name)
    tensors = {f"weights/{k}": v for k, v in pack.bank.state(member.name).items()}
    tensors |= {f"optimizer/{k}": v for k, v in optimizer.tensors.items()}
    if member.count.micro:
        partial = pack.bank.copied(pack.bank.gradients[row], member.name)
        tensors |= {f"gradients/{k}": v for k, v in partial.items()}
    header = {
        "format": _FORMAT,
        "counters": json.dumps(dataclasses.asdict(member.count)),
        "optimizer": json.dumps(optimizer.numbers),
        "streams": str(STREAMS),
        "config": config_digest(member.config),
        "base": member.provenance.base_hash,
        "data": member.provenance.data_hash,
    }
    header["digest"] = _digest(tensors, header)
    path = folder / f"step-{member.count.step:08d}.safetensors"
    write_atomic(path, save(tensors, header))
    for old in parts(folder)[_KEPT:]:
        old.unlink(missing_ok=True)
    return path


def parts(folder: Path) -> list[Path]:
    """The checkpoint files of a job, newest first."""
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def load_newest(folder: Path) -> tuple[Part, Path, list[str]]:
    """The newest file that is whole, and a line for each newer one that is not.

    Raises:
        CheckpointError: When there is none.
    """
    complaints: list[str] = []
    for path in parts(folder):
        try:
            return read_part(path), path, complaints
        except CheckpointError as error:
            complaints.append(str(error))
    found = "; ".join(complaints) or "no step-*.safetensors"
    msg = f"{folder}: got no checkpoint to continue from ({found})"
    raise CheckpointError(msg)


def read_part(path: Path) -> Part:
    """Read and check one member's file.

    Raises:
        CheckpointError: When it is torn, altered, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        msg = f"{path.name} cannot be read: {error}"
        raise CheckpointError(msg) from error
    if header.get("format") not in _READ:
        msg = f"{path.name}: got format {header.get('format')!r}, allowed is {' or '.join(map(repr, _READ))}"
        raise CheckpointError(msg)
    if header.pop("digest", None) != _digest(tensors, header):
        msg = f"{path.name}: its content does not match its digest"
        raise CheckpointError(msg)

    def under(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    return Part(
        weights=under("weights/"),
        gradients=under("gradients/"),
        optimizer=OptimizerState(tensors=under("optimizer/"), numbers=json.loads(header["optimizer"])),
        count=Counters.of(json.loads(header["counters"])),
        made_with={key: header[key] for key in ("config", "base", "data")},
        streams=int(header.get("streams", "1")),
    )


def restore(pack: Pack, member: Member, part: Part, *, forked: bool = False) -> None:
    """Set ``member`` to what ``part`` holds.

    Args:
        pack: That it is in.
        member: The member.
        part: Its own, or that of another whose place in training it takes over.
        forked: Whether it is another's, whose settings may be others.

    Raises:
        CheckpointError: When the checkpoint is of another configuration or another base, or its dropout of other draws.
        StoredError: When the lengths that the job was to have cannot be read.
    """
    now = {
        "config": config_digest(member.config),
        "base": member.provenance.base_hash,
        "data": member.provenance.data_hash,
    }
    others = [key for key, digest in now.items() if part.made_with[key] != digest]
    lengths = read_lengths(member.folder)
    if "config" in others and forked:
        others.remove("config")
    if "config" in others and part.made_with["config"] in digests_of(member.config, lengths):
        others.remove("config")  # of another length
    if others:
        words = {"config": "another configuration", "base": "another base", "data": "other data"}
        words["data"] += _data_changes(member) if "data" in others else ""
        made = " and ".join(words[key] for key in others)
        msg = f"{member.name}: the checkpoint was made with {made}; start anew, or restore what it was made with"
        raise CheckpointError(msg)
    drawn = drawn_otherwise(part.streams, member.config.lora.dropout)
    if drawn is not None:
        msg = f"{member.name}: {drawn}; start anew, or go on with the version of this program that began it"
        raise CheckpointError(msg)
    place = pack.bank.place(member.name)
    try:
        pack.bank.fill(pack.bank.weights[place], part.weights, member.name)
        if part.gradients:
            pack.bank.fill(pack.bank.gradients[place], part.gradients, member.name)
        pack.optimizer.load(member.name, part.optimizer)
    except (ValueError, KeyError) as error:
        msg = f"{member.name}: the checkpoint does not fit the job: {error}"
        raise CheckpointError(msg) from error
    member.count = part.count
    if lengths:  # somebody wants more of it, whatever its patience said
        member.waits_from = lengths[-1].after
        member.count.early &= member.count.step > member.waits_from


def _data_changes(member: Member) -> str:
    """What changed in the data since the job's last start, in brackets; empty where that was not recorded."""
    made, now = read_made_with(member.folder), member.provenance.inventory
    file = None if made is None else made.inventory_file(member.folder)
    before = None if file is None else read_inventory(file)
    lines = [] if before is None or now is None else changes(before, now)
    return f" ({'; '.join(lines)})" if lines else ""


def write_manifest(folder: Path, files: dict[str, Path], *, root: Path) -> Path:
    """Record that ``files`` (by member) are one consistent cut of the pack; written after all of them.

    Manifests are numbered as they come, the newest two are kept, and paths are relative to ``root``.
    """
    entries = {
        name: {
            "file": str(path.relative_to(root)) if path.is_relative_to(root) else str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for name, path in files.items()
    }
    older = sorted(folder.glob("manifest-*.json"), reverse=True)
    number = int(older[0].stem.removeprefix("manifest-")) + 1 if older else 1
    path = folder / f"manifest-{number:08d}.json"
    write_json(path, {"number": number, "members": entries})
    for old in older[_KEPT - 1 :]:
        old.unlink(missing_ok=True)
    return path


def _digest(tensors: dict[str, Tensor], header: dict[str, str]) -> str:
    content = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        content.update(name.encode())
        content.update(tensors[name].contiguous().numpy().tobytes())
    return content.hexdigest()
