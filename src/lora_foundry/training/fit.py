"""Training one pack from its first step, or its last checkpoint, to every member's end."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lora_foundry.training.callbacks.arriving import Arrivals, Others
from lora_foundry.training.callbacks.checkpointing import Checkpoints
from lora_foundry.training.callbacks.departing import Departures
from lora_foundry.training.callbacks.exporting import Exports
from lora_foundry.training.callbacks.metrics import Metrics
from lora_foundry.training.callbacks.pacing import Pacing
from lora_foundry.training.callbacks.showing import Shows
from lora_foundry.training.callbacks.validating import Validation
from lora_foundry.training.module import PackModule
from lora_foundry.training.pack import Pack, StoppedError, never
from lora_foundry.training.probing import reason_of
from lora_foundry.training.requests import Arrival, Requests
from lora_foundry.training.shortage import OutOfMemoryError, is_out_of_memory, let_go
from lora_foundry.wire.events import LogEvent, StateEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lightning.pytorch import Callback

    from lora_foundry.config.giving_way import Changes
    from lora_foundry.tasks.protocol import Task
    from lora_foundry.training.member import Member
    from lora_foundry.training.peaks import Peaks
    from lora_foundry.training.shortage import Relief
    from lora_foundry.training.sink import Sink
    from lora_foundry.wire.forks import Donor

# Hints that do not apply: the pack owns its optimizers and draws its own data, the frozen base stays in eval
# mode, the bank's gradients are views on purpose, Lightning's own use of torch, and a cluster's client on the PATH.
_NOT_FOR_US = (
    ".*configure_optimizers.*returned `None`.*",
    ".*does not have many workers.*",
    r"Found \d+ module\(s\) in eval mode.*",
    "grad and param do not obey the gradient layout contract.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
    "The `srun` command is available.*",
)


def train_pack(  # noqa: PLR0913  # what a pack trains with
    task: Task,
    members: Sequence[Member],
    *,
    sink: Sink,
    folder: Path,
    stop: Callable[[], bool] = never,
    resume: frozenset[str] = frozenset(),
    donors: Mapping[str, Donor] | None = None,
    relief: Relief | None = None,
    peaks: Peaks | None = None,
    requests: Requests | None = None,
) -> dict[int, Changes]:
    """Train ``members`` together; each one's end is told to ``sink`` as a state event.

    Where their adapters and optimizers do not fit in memory together, they train in several packs, one after another.

    Args:
        task: What is learned; its base is left without adapters afterwards, whatever happens.
        members: At least one.
        sink: Takes metrics, what is shown, states.
        folder: Where the pack's manifests go.
        stop: Asked between steps; once true, every member is checkpointed and KILLED.
        resume: Names of the members that continue from their newest checkpoint.
        donors: Names of members that begin where others are, to those others.
        relief: What a pack turns to when memory runs out; None lets the members fail.
        peaks: What the packs take is noted here.
        requests: What is asked of the pack while it trains; None asks nothing.

    Returns:
        What ``relief`` changed: the number of a job that has to start anew, to the changes by key.

    Raises:
        OutOfMemoryError: When a single member's adapter and optimizer do not fit beside the base.
    """
    waiting = [list(members)]
    changed: dict[int, Changes] = {}
    while waiting:
        group = waiting.pop(0)
        try:
            pack = Pack(task, group, stop, relief, peaks)
        except Exception as error:
            if not is_out_of_memory(error, task.base.device):
                raise
            reason = reason_of(error)
        else:
            try:
                begins = _beginning(pack, resume, donors or {})
                _train_together(pack, begins, sink=sink, folder=folder, requests=requests or Requests())
            finally:
                pack.close()
            resume |= {member.name for member in pack.set_aside}
            waiting.extend([pack.set_aside] if pack.set_aside else [])
            changed |= pack.changed
            continue
        let_go(task.base.device)
        if len(group) == 1:
            msg = f"{group[0].name}: its adapter and optimizer do not fit beside the base ({reason})"
            raise OutOfMemoryError(msg)
        half = (len(group) + 1) // 2
        sink.emit(LogEvent(level="warning", message=f"out of memory for {len(group)} adapters at once: {reason}"))
        waiting[:0] = [group[:half], group[half:]]
    return changed


def _beginning(pack: Pack, resume: frozenset[str], donors: Mapping[str, Donor]) -> list[Arrival]:
    return [
        Arrival(member=one, resume=one.name in resume, donor=None if one.name in resume else donors.get(one.name))
        for one in pack.members
    ]


def _train_together(pack: Pack, begins: Sequence[Arrival], *, sink: Sink, folder: Path, requests: Requests) -> None:
    validation = Validation(pack, sink)
    exports = Exports(sink, validation)
    checkpoints = Checkpoints(sink, folder)
    others = Others(
        metrics=Metrics(sink),
        validation=validation,
        shows=Shows(pack, sink),
        exports=exports,
        departures=Departures(sink, exports, requests),
        pacing=Pacing(sink, requests.least_gain),
    )
    arrivals = Arrivals(sink, requests.arriving, others)
    arrivals.begin(pack, begins)
    # The order is the story of a step's end: measure, judge, show, export, save, leave, let others in.
    callbacks: list[Callback] = [
        others.pacing,
        others.metrics,
        validation,
        others.shows,
        exports,
        checkpoints,
        others.departures,
        arrivals,
    ]
    if pack.active and not pack.stop():
        try:
            _trainer(pack, callbacks, folder).fit(PackModule(pack))
        except (SIGTERMException, StoppedError):
            # Lightning leaves a fit on SIGTERM by itself; for the worker that signal is a stop like any other.
            if not pack.stop():
                raise
    requests.pace(others.pacing.paces())
    if any(member.count.ordinal for member in pack.members):  # only a stop leaves members behind
        checkpoints.save(pack)
    for member in pack.members:
        sink.emit(StateEvent(job=member.job, state="KILLED"))


def _trainer(pack: Pack, callbacks: list[Callback], folder: Path) -> Trainer:
    """One process on one device: what Lightning would look for around it, or take from ``PL_TRAINER_*``, is named."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for hint in _NOT_FOR_US:
        warnings.filterwarnings("ignore", message=hint)
    return Trainer(
        accelerator="gpu" if pack.device.type == "cuda" else "cpu",
        strategy="auto",
        devices=1,
        num_nodes=1,
        precision="32-true",  # the pack has dtypes of its own
        plugins=[LightningEnvironment()],
        default_root_dir=folder,
        fast_dev_run=False,
        max_epochs=1,
        max_steps=-1,
        max_time=None,
        limit_train_batches=1.0,
        detect_anomaly=False,
        deterministic=None,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
