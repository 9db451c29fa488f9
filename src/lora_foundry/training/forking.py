"""A member that begins where another one is: its weights, its optimizer and everything that moves of it.

In one pack all of that is copied from place to place in the bank; from another pack, or one that has ended, it comes
from the other's newest checkpoint. With the same settings the fork goes on as the other does, bit by bit in one pack.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from lora_foundry.training.checkpoint import CheckpointError, load_newest, restore
from lora_foundry.wire.forks import Lineage

if TYPE_CHECKING:
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack
    from lora_foundry.wire.forks import Donor


def fork(pack: Pack, member: Member, donor: Donor) -> Lineage:
    """Let ``member`` begin where ``donor`` is.

    Files of the donor's best adapters stay the donor's: what the fork keeps, it finds from here on.

    Raises:
        CheckpointError: When the donor is in no pack here and left no checkpoint that fits, or is another adapter.
    """
    other = next((one for one in pack.members if one.job == donor.job and one.state == "active"), None)
    if other is None:
        part, _, _ = load_newest(donor.dir / "checkpoints")
        restore(pack, member, part, forked=True)
    else:
        _copy(pack, other, member)
    count = member.count
    member.count = replace(count, kept=[], best_loss=math.inf, best_step=count.step, early=False)
    return Lineage(of=donor.job, name=donor.name, step=count.step, samples=member.samples)


def _copy(pack: Pack, other: Member, member: Member) -> None:
    made_with = (other.provenance.base_hash, other.provenance.data_hash)
    if made_with != (member.provenance.base_hash, member.provenance.data_hash):
        msg = f"{member.name}: {other.name} trains on another base or other data; a fork has both in common with it"
        raise CheckpointError(msg)
    try:
        pack.bank.copy(other.name, member.name)
        pack.optimizer.copy(other.name, member.name)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    member.count = replace(other.count)
