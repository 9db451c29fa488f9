"""Every fault that is tried, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from bench.faults import inside, process, storage, store
from bench.faults.checks import Verdict
from bench.faults.lab import Lab
from bench.faults.sweeps import EIGHT, FOUR, SEARCH, TWO_PAIRS

Story = Callable[[Lab, Random], Verdict]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault and its story.

    Attributes:
        title: What is done.
        story: Does it to a new sweep, sees that the sweep ends, and checks what is left; raises LostError.
        seen: What a user sees of it.
        often: How often it is tried when tries are counted.
        many: The story as it is told then, where that is another.
        mounts: Whether it takes the right to mount a disk.
    """

    title: str
    story: Story
    seen: str
    often: int = 3
    many: Story | None = None
    mounts: bool = False


FAULTS: dict[str, Fault] = {
    "worker-killed": Fault(
        title="SIGKILL of a worker at random moments",
        story=process.worker_killed,
        seen="a yellow line; the pack goes on from its last checkpoint, at the second death in two halves",
        often=20,
        many=partial(process.worker_killed, recipe=EIGHT, times=20),
    ),
    "launcher-killed": Fault(
        title="SIGKILL of the launcher at a random moment, `python -m src.resume` at once",
        story=process.launcher_killed,
        seen="the workers save and end within seconds; resuming continues every job and its run",
        often=10,
        many=partial(process.launcher_killed, recipe=FOUR, times=10),
    ),
    "one-of-two-killed": Fault(
        title="SIGKILL of one of two workers that train side by side",
        story=partial(process.worker_killed, recipe=TWO_PAIRS),
        seen="a yellow line; its pack goes on from its last checkpoint, the other worker does not notice",
        often=10,
    ),
    "launcher-of-two-killed": Fault(
        title="SIGKILL of the launcher of two workers, `python -m src.resume` at once",
        story=partial(process.launcher_killed, recipe=TWO_PAIRS),
        seen="both workers save and end within seconds; resuming continues every job and its run",
        often=5,
    ),
    "searchs-worker-killed": Fault(
        title="SIGKILL of the worker of a search",
        story=partial(process.worker_killed, recipe=SEARCH),
        seen="as of a grid; each trial is told once",
        often=5,
    ),
    "searchs-launcher-killed": Fault(
        title="SIGKILL of the launcher of a search, `python -m src.resume` at once",
        story=partial(process.launcher_killed, recipe=SEARCH),
        seen="what was told stays told, trials under way go on from their checkpoints, the others are asked for",
        often=5,
    ),
    "worker-frozen": Fault(
        title="SIGSTOP of a worker",
        story=process.worker_frozen,
        many=partial(process.worker_frozen, stall_s=15),
        seen="after `stall_s` the worker is ended and its pack goes on",
    ),
    "interrupted-twice": Fault(
        title="Ctrl-C twice",
        story=process.interrupted_twice,
        seen="the sweep ends at once, its jobs KILLED; resuming goes on from the last checkpoint",
    ),
    "terminated": Fault(
        title="SIGTERM to the launcher",
        story=process.terminated,
        seen="checkpoints within seconds, jobs KILLED, exit code 130; resuming goes on",
    ),
    "hung-up": Fault(
        title="SIGHUP to the launcher (a closed terminal)",
        story=process.hung_up,
        seen="as SIGTERM",
    ),
    "two-resumes": Fault(
        title="two resumes at once",
        story=process.two_resumes,
        seen="one goes on, the other says that the sweep is in use",
    ),
    "database-locked": Fault(
        title="the MLflow database locked",
        story=store.database_locked,
        seen="nothing for 20 s, which MLflow waits, then `MLflow is away, training goes on`; everything arrives later",
        often=2,
        many=partial(store.database_locked, seconds=30.0),
    ),
    "server-gone": Fault(
        title="the tracking server killed and started again",
        story=store.server_gone,
        seen="`MLflow is away, training goes on`; where it stays away, the command that logs the rest is named",
        often=2,
        many=partial(store.server_gone, seconds=60.0),
    ),
    "disk-full": Fault(
        title="a full disk (a small tmpfs) while checkpoints are written, then SIGKILL of the worker",
        story=storage.disk_full,
        mounts=True,
        seen="`no checkpoint was written (...); the training goes on`; the last good one serves",
    ),
    "disk-full-for-a-while": Fault(
        title="the whole sweep's disk (a small tmpfs) full to the last byte for a while",
        story=storage.disk_full_for_a_while,
        mounts=True,
        seen="`MLflow is away`, `no checkpoint was written`; the training goes on, what there was to tell comes later",
    ),
    "checkpoint-spoilt": Fault(
        title="the newest checkpoint of every job damaged before a resume",
        story=storage.checkpoint_spoilt,
        seen="`passed over: step-...`; the one before is used",
    ),
    "cache-spoilt": Fault(
        title="damaged entries in the cache of latents and text states",
        story=storage.cache_spoilt,
        seen="a line in the worker's log; the entries are made again",
    ),
    "data-changed": Fault(
        title="a caption changed before a resume",
        story=storage.data_changed,
        seen="the resume is refused with what changed; once it is put back, it goes on",
    ),
    "member-raises": Fault(
        title="an exception that nobody expects in one member's step",
        story=inside.member_raises,
        seen="the pack is halved until the culprit is alone; it is FAILED with the error, its mates finish",
    ),
    "member-refused": Fault(
        title="a member that is to start from an adapter file with a NaN in it",
        story=inside.member_refused,
        seen="it is FAILED with the tensor before the base loads; its mates finish",
    ),
    "member-nan": Fault(
        title="a learning rate that leads to NaN in one member",
        story=inside.member_nan,
        seen="it is FAILED with the step and what to lower; its mates finish",
    ),
    "cuda-sticks": Fault(
        title="a CUDA error that sticks to the process (injected)",
        story=inside.cuda_sticks,
        seen="the worker ends, another takes its place and goes on from the last checkpoint",
    ),
    "killed-in-export": Fault(
        title="SIGKILL inside the final export, at five places of it",
        story=inside.killed_in_export,
        seen="the files are made again",
        often=5,
        many=inside.killed_in_every_place,
    ),
    "clock-jumps": Fault(
        title="clocks of worker and launcher that jump by hours and days, both ways (injected)",
        story=inside.clock_jumps,
        seen="nothing",
    ),
}
