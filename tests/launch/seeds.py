"""What a fake worker does with a job, by the job's seed: the one thing of a job that no test of supervision needs."""

from __future__ import annotations

from enum import IntEnum


class Seed(IntEnum):
    """A job with any other seed trains its few steps and finishes."""

    DIVERGES = 13
    """The job fails at its pack's second step."""
    GAINS_NOTHING = 31
    """Its pack, told to try, finds that training together gains nothing, and hands the others back."""
    HAS_NO_ROOM = 32
    """Its pack refuses every other job."""
    HANGS_ONCE = 33
    """The worker does nothing more at the third step, the first time."""
    DIES_OF_STOP_ONCE = 34
    """Endless, and the worker dies when it is told to stop this job, the first time."""
    FAILS_LATE = 44
    """It finishes, and a later fault of the pack claims that it failed."""
    ENDS_UNSAID = 55
    """The pack ends without a word about it."""
    DIES = 66
    """The worker dies at the third step."""
    DIES_ONCE = 67
    """The same, the first time."""
    ENDLESS = 77
    """It never ends by itself, unless the sweep's folder holds ``let-end``."""
    DEAF = 88
    """Endless, and it ignores a stop as well."""
    BREAKS = 99
    """Its pack breaks at the third step, unless it is alone in it."""


def seeds(*values: int) -> str:
    """``seed=0,67``: the word of the command line that sweeps them."""
    return "seed=" + ",".join(str(int(value)) for value in values)
