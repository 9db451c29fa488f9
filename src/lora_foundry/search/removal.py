"""``src.ablate``: one member with all images and one without each group, and what their held-out losses say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lora_foundry.config.called import command_line
from lora_foundry.config.digest import config_digest
from lora_foundry.config.errors import SweepError
from lora_foundry.config.quoting import override, shell
from lora_foundry.config.schema import JobConfig
from lora_foundry.judge.removal import FEWEST_GROUPS, Removals, removals
from lora_foundry.launch.points.argv import arrange
from lora_foundry.launch.points.check import problems_of_line
from lora_foundry.launch.points.offline import compose_all
from lora_foundry.launch.records.finding import find
from lora_foundry.launch.records.reading import read_results
from lora_foundry.launch.records.record import StoredJob, read_sweep
from lora_foundry.launch.records.search import is_search
from lora_foundry.launch.records.stored_jobs import read_stored_config
from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.outcomes import JobOutcome

KEY = "data.without"
_SEED = "seed"
_FOLDERS = ("hydra.sweep.dir=", "hydra.run.dir=")  # the ablation lies there
_FEWEST = 2
_SHOWN = 3
_FIXED = (
    *("sample=none", "trainer.epochs=null", "trainer.patience=null", "trainer.keep_best=null"),
    *("trainer.average=null", "trainer.save_every=null", "validation.every=null"),
)
_IMAGES = 64  # held-out images that an ablation is judged on, at its end alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is to be found out.

    Attributes:
        words: Overrides of the job.
        groups: How many at most.
        seeds: How many of each member; null is one where there are groups enough to tell chance from harm.
    """

    words: tuple[str, ...]
    groups: int = 8
    seeds: int | None = None

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            SweepError: With a line for each.
        """
        given = [word for word in self.words if word.lstrip("+").startswith(f"{KEY}=")]
        seeded = [word for word in self.words if word.startswith(f"{_SEED}=") and "," in word]
        wrong = [
            (self.groups < _FEWEST, f"--groups: got {self.groups}, allowed is at least 2"),
            (self.seeds is not None and self.seeds < 1, f"--seeds: got {self.seeds}, allowed is at least 1"),
            (bool(given), f"{' '.join(given)}: what is left out is to be found; remove the images, or leave it"),
            (bool(seeded), f"{' '.join(seeded)}: give one, and how many with --seeds"),
        ]
        if problems := [line for bad, line in wrong if bad]:
            raise SweepError(problems)

    def config(self) -> JobConfig:
        """The configuration of the job with all images.

        Raises:
            ConfigError: With every wrong key and value.
            SweepError: With what else cannot work, or when the words are of several jobs.
        """
        plain = arrange(list(self.words))
        if problems := [*plain.problems, *problems_of_line(plain)]:
            raise SweepError(problems)
        return compose_all(list(self.words))[0].config

    def line(self, groups: Sequence[Sequence[str]], steps: int, config: JobConfig) -> list[str]:
        """The words of the sweep behind ``train``.

        Args:
            groups: What ``data.without`` has for each group.
            steps: Optimizer steps of the job.
            config: The job's.

        Raises:
            SweepError: When so few groups need several seeds, and one was asked for.
        """
        seeds = self.seeds or (1 if len(groups) >= FEWEST_GROUPS else _FEWEST)
        if seeds < _FEWEST and len(groups) < FEWEST_GROUPS:
            raise SweepError(
                [
                    f"--seeds: got {seeds} with {len(groups)} groups, allowed are at least {_FEWEST}, since so few "
                    f"groups do not tell chance from harm; or give {FEWEST_GROUPS} groups"
                ]
            )
        left_out = ",".join(override(KEY, tuple(one)).partition("=")[2] for one in [(), *groups])
        kept = [word for word in self.words if not word.startswith(f"{_SEED}=")]
        return [
            *kept,
            f"{KEY}={left_out}",
            f"{_SEED}={','.join(str(config.seed + place) for place in range(seeds))}",
            *(
                *_FIXED,
                f"trainer.max_steps={steps}",
                f"validation.max_images={max(_IMAGES, config.validation.max_images)}",
            ),
            *(f"hydra.launcher.pack_size={(len(groups) + 1) * seeds}", "hydra.launcher.pruner=none", "-m"),
        ]

    def without(self, patterns: Sequence[str]) -> list[str]:
        """The user's words, and what leaves out a group, for a training of its own."""
        kept = [word for word in self.words if not word.startswith(_FOLDERS)]
        return [*kept, override(KEY, tuple(patterns))]


def asked_of(what: str, root: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The folder of an ablation that ``what`` is, or none; and the words of the job that ``what`` is, or that it is of.

    Args:
        what: A job's folder or name, or a sweep's of one job, or that of an ablation.
        root: Where sweeps lie.

    Raises:
        NotFoundError: When nothing is meant.
        SweepError: When a sweep of several jobs is meant, or the job's words do not make it again.
    """
    folder, job = find(what, root)
    stored = read_sweep(folder)
    swept = {tuple(read_stored_config(folder / one.dir).data.without) for one in stored.jobs} if job is None else set()
    if len(swept) > 1:
        words = [f"{key}={value}" for key, value in stored.jobs[0].overrides.items() if key not in (KEY, _SEED)]
        return folder, tuple(word for word in words if word not in _FIXED)
    chosen = stored.jobs if job is None else [one for one in stored.jobs if one.job == job]
    if len(chosen) != 1:
        names = ", ".join(one.name for one in stored.jobs[:_SHOWN])
        raise SweepError([f"{what}: is a sweep of {len(stored.jobs)} jobs ({names}, ...); give one of them"])
    return None, _words(folder, chosen[0])


def _words(folder: Path, job: StoredJob) -> tuple[str, ...]:
    """The words that make a job again; those that choose a search would begin that anew."""
    left_out = {"sweep"} if is_search(folder) else set()
    words = tuple(f"{key}={value}" for key, value in job.overrides.items() if key not in left_out)
    config = read_stored_config(folder / job.dir)
    made = Asked(words=words).config()
    made = replace(made, name=config.name, trainer=replace(made.trainer, precision=config.trainer.precision))
    if config_digest(made) != config_digest(config):
        raise SweepError(
            [
                f"{folder / job.dir}: its words ({shell(words)}) make another job now, since files that they name "
                "changed, or it trained on for longer; give the words of a training instead of its folder"
            ]
        )
    return words


def removals_of(folder: Path) -> Removals:
    """What an ablation's sweep says.

    Raises:
        SweepError: When it cannot be read, or too few of its members finished.
    """
    by_group: dict[tuple[str, ...], dict[int, JobOutcome]] = {}
    for result in read_results(folder):
        config = read_stored_config(result.dir)
        by_group.setdefault(config.data.without, {})[config.seed] = result
    whole = by_group.pop((), {})
    if not whole or not by_group:
        raise SweepError([f"{folder}: is no ablation: it needs a member with all images, and some without ({KEY})"])
    members = (whole, *by_group.values())
    seeds = sorted(seed for seed in whole if all(_judged(of.get(seed)) is not None for of in members))
    if not seeds:
        raise SweepError(
            [f"{folder}: not all of its members finished; go on with it ({command_line('resume', folder)})"]
        )
    every = [_stacked(one, seeds) for one in members]
    if any(one.shape != every[0].shape for one in every) or len({_rows(one[seeds[0]]) for one in members}) > 1:
        raise SweepError([f"{folder}: its members were not judged on the same images"])
    try:
        return removals(every[0], np.stack(every[1:], axis=1), list(by_group))
    except ValueError as error:
        raise SweepError([f"{folder}: {error}"]) from error


def _judged(job: JobOutcome | None) -> ByItem | None:
    return None if job is None else job.by_item


def _rows(job: JobOutcome) -> str | None:
    return None if job.by_item is None else job.by_item.rows


def _stacked(by_seed: Mapping[int, JobOutcome], seeds: Sequence[int]) -> NDArray[np.float64]:
    """``[S, n]``."""
    return np.array([one.relative for seed in seeds if (one := _judged(by_seed[seed])) is not None], dtype=np.float64)
