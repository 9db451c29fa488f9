"""``results.json``: how each job of a sweep ended, for people, for the report and for other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lora_foundry.config.files import write_json
from lora_foundry.config.stored import StoredError, is_mapping, read_json
from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.fields import Form, Loose
from lora_foundry.wire.forks import Lineage
from lora_foundry.wire.states import State
from lora_foundry.wire.summary import Summary

FILE = "results.json"
FOLD, EVERY = "data.fold", "all"
"""The key by which a job holds out one fold of its images, and the value with which it holds out none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOutcome:
    """One job at the end of a sweep.

    Attributes:
        job: The job's number.
        name: The adapter's name.
        dir: The job's folder.
        state: ``FINISHED``, ``FAILED``, ``KILLED`` or ``PRUNED``.
        overrides: What the command line set, key to value.
        rank: The adapter's rank.
        summary: Results of a finished job, else null.
        error: Why a job failed, else null.
        by_item: The validation of a finished job's file, image by image; null where none was told.
        lineage: Where it began, of one that took over from another.
    """

    job: int
    name: str
    dir: Path
    state: State
    overrides: Mapping[str, str]
    rank: int
    summary: Summary | None
    error: str | None
    by_item: Loose[ByItem] = None
    lineage: Loose[Lineage] = None

    @property
    def score(self) -> float | None:
        """What adapters are compared by; null for one that did not finish, or was judged on what it learned from."""
        if self.summary is None or self.state != "FINISHED" or self.on_every_image:
            return None
        return self.summary.score

    @property
    def on_every_image(self) -> bool:
        """Whether no fold is held out: its losses measure fit alone."""
        return learns_from_all(self.overrides)

    @property
    def base_loss(self) -> float | None:
        """The base's loss on the same rows, by which :attr:`score` and :attr:`by_item` are divided."""
        loss = None if self.summary is None else self.summary.loss
        return loss / self.score if loss and self.score else None

    @property
    def file(self) -> str | None:
        """A finished job's last adapter, from the sweep's folder; null where none was told."""
        return self.summary.file if self.summary is not None and self.state == "FINISHED" else None

    @property
    def file_to_keep(self) -> str | None:
        """A finished job's best adapter, whose loss :attr:`score` is; null where none was told."""
        return self.summary.file_to_keep if self.summary is not None and self.state == "FINISHED" else None


def learns_from_all(overrides: Mapping[str, str]) -> bool:
    """Whether a job of these overrides is a sweep of folds' last one, which holds no image out."""
    return overrides.get(FOLD) == EVERY


_FORM = Form(JobOutcome)


def write_outcomes(sweep_dir: Path, outcomes: Sequence[JobOutcome]) -> None:
    """Write ``results.json``; paths in it start from the sweep's folder.

    Raises:
        OSError: When the folder cannot be written.
    """
    inside = [
        replace(one, dir=one.dir.relative_to(sweep_dir)) if one.dir.is_relative_to(sweep_dir) else one
        for one in outcomes
    ]
    write_json(sweep_dir / FILE, [_FORM.written(one) for one in inside])


def read_outcomes(sweep_dir: Path) -> list[JobOutcome]:
    """What :func:`write_outcomes` wrote.

    Raises:
        StoredError: When there is nothing, or something else.
    """
    path = sweep_dir / FILE
    rows = read_json(path)
    found = [_FORM.read(row) if is_mapping(row) else None for row in rows] if isinstance(rows, list) else [None]
    outcomes = [replace(one, dir=sweep_dir / one.dir) for one in found if one is not None]
    if len(outcomes) < len(found):
        raise StoredError(f"{path} holds something that is no sweep's results")
    return outcomes
