"""Everything random is a stateless function of (seed, purpose, index): this is the function's key.

A stream is named, not stored. Two draws with equal keys are equal wherever and whenever they are made,
so a checkpoint holds counters instead of generator states.
"""

from __future__ import annotations

import hashlib


def stream_key(seed: int, purpose: str, *index: int | str) -> int:
    """A 63-bit seed for a generator, independent of process, platform and PYTHONHASHSEED.

    Args:
        seed: The job's seed.
        purpose: What is drawn (``noise``, ``timestep``, ``flip``, ``dropout``, ...).
        index: What tells one draw of that purpose from another (a sample's ordinal, a layer's name).
    """
    text = "\x1f".join((str(seed), purpose, *(str(part) for part in index)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
