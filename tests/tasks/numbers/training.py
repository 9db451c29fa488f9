"""Members of the family, and a pack of them; where its folders are found (:func:`there`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lora_foundry.config import JobConfig, parse
from lora_foundry.config.choices import FAMILIES
from lora_foundry.training.bases import Bases
from lora_foundry.training.checkpoint import Part, load_newest
from lora_foundry.training.fit import train_pack
from lora_foundry.training.member import Member
from lora_foundry.training.preparing import Encoders, check_jobs
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.commands import PackedJob
from tests.added import extended
from tests.root import PROJECT_ROOT

CPU = torch.device("cpu")

WIDTH = 6
QUICK = (
    "sample=none",
    "trainer.max_steps=20",
    "trainer.precision=64-true",
    "trainer.accelerator=cpu",
    "validation.every=5",
    "scheduler.warmup_steps=2",
    "optimizer.lr=0.01",
    "lora.target_modules=[first,second,read]",
    "data.name=numbers12",
)
MODEL = {"name": "regressor", "family": "regression", "path": ".", "config": None, "revision": None, "stride": 1}


@contextmanager
def there() -> Iterator[None]:
    """The family and its task are found as all others are: by the names of their folders."""
    with (
        extended(FAMILIES.package, Path(__file__).with_name("families")),
        extended("lora_foundry.tasks", Path(__file__).with_name("tasks")),
    ):
        yield


def raw_job(*overrides: str) -> dict[str, Any]:
    """What YAML of its own would compose: its model, its objective and the rest as for all."""
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        raw: Any = OmegaConf.to_container(compose("train", overrides=[*QUICK, *overrides]), resolve=True)
    return {**raw, "model": {**MODEL, "width": WIDTH}, "objective": {"third": 2.0}}


def composed(*overrides: str) -> JobConfig:
    """A job of the family."""
    return parse(raw_job(*overrides))


def prepared(specs: Mapping[str, tuple[str, ...]], root: Path, sink: ListSink) -> list[Member]:
    """Members as a worker makes them, of stored jobs by name to overrides; what is wrong is told to ``sink``."""
    jobs = []
    for job, (name, words) in enumerate(specs.items()):
        folder = root / name
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(raw_job(*words))))
        jobs.append(PackedJob(job=job, name=name, dir=folder, resume=False))
    return Encoders(sink, CPU).members(check_jobs(jobs, Bases(CPU), sink))


def train(specs: Mapping[str, tuple[str, ...]], root: Path) -> tuple[dict[str, Part], list[dict[str, Any]]]:
    """Train the members, by name to overrides, as one pack: their final checkpoints, and what was told."""
    sink = ListSink(root)
    members = prepared(specs, root, sink)
    task = Bases(CPU).load(members[0].config)
    train_pack(task, members, sink=sink, folder=root / "pack")
    return {m.name: load_newest(m.folder / "checkpoints")[0] for m in members}, sink.events
