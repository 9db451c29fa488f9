"""Everything random is a stateless function of (seed, purpose, index): this is the function's key.

A stream is named, not stored. Two draws with equal keys are equal wherever and whenever they are made,
so a checkpoint holds counters instead of generator states.
"""

from __future__ import annotations

import hashlib

STREAMS = 2
"""Version of what is drawn from these keys. 1 drew LoRA dropout from generators of the device that trained; 2 draws it
as :mod:`lora_foundry.lora.dropout` says, and all else as 1 did. A job cannot go on with another half-way."""


def drawn_otherwise(streams: int, dropout: float) -> str | None:
    """Why a job that began with ``streams`` cannot go on with :data:`STREAMS`; None when it can.

    Args:
        streams: The version that it began with.
        dropout: Its ``lora.dropout``.
    """
    if streams == STREAMS or not dropout:
        return None
    return (
        f"its LoRA dropout was drawn by version {streams} of the random streams, and would be by version {STREAMS} "
        "from here on, by which it would end as another adapter"
    )


def stream_key(seed: int, purpose: str, *index: int | str) -> int:
    """A 63-bit seed for a generator, independent of process, platform and PYTHONHASHSEED.

    Args:
        seed: The job's seed.
        purpose: What is drawn (``noise``, ``timestep``, ``flip``, ``dropout``, ...).
        index: What tells one draw of that purpose from another (a sample's ordinal, a layer's name).
    """
    text = "\x1f".join((str(seed), purpose, *(str(part) for part in index)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
