"""Members of the family, and a pack of them; where its folders are found (:func:`there`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from lora_foundry.config import JobConfig, parse
from lora_foundry.config.choices import FAMILIES
from lora_foundry.config.length import total_steps
from lora_foundry.data.order import SampleOrder
from lora_foundry.models import open_base
from lora_foundry.tasks.opening import open_task
from lora_foundry.training.checkpoint import Part, load_newest
from lora_foundry.training.fit import train_pack
from lora_foundry.training.member import Member, Provenance
from lora_foundry.training.sink import ListSink
from tests.added import extended
from tests.root import PROJECT_ROOT

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


@dataclass(frozen=True)
class Numbers:
    """Questions ``[S, WIDTH]`` and answers ``[S, 3]``, to learn from and to be judged on."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]


def raw_job(*overrides: str) -> dict[str, Any]:
    """What YAML of its own would compose: its model, its objective and the rest as for all."""
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        raw: Any = OmegaConf.to_container(compose("train", overrides=[*QUICK, *overrides]), resolve=True)
    return {**raw, "model": {**MODEL, "width": WIDTH}, "objective": {"third": 2.0}}


def composed(*overrides: str) -> JobConfig:
    """A job of the family."""
    return parse(raw_job(*overrides))


def make_member(name: str, folder: Path, job: int, *overrides: str) -> Member:
    """A member that learns one linear map of random questions."""
    config = composed(*overrides)
    draw = torch.Generator().manual_seed(1)
    map_ = torch.randn(WIDTH, 3, generator=draw, dtype=torch.float64)
    train, held_out = (torch.randn(n, WIDTH, generator=draw, dtype=torch.float64) for n in (12, 6))
    return Member(
        job=job,
        name=name,
        folder=folder / name,
        config=config,
        material=Numbers(train=(train, train @ map_), held_out=(held_out, held_out @ map_)),
        provenance=Provenance(base_hash="b" * 64, data_hash="d" * 64, started_at=1.0),
        order=SampleOrder.of(config.data, seed=config.seed, n_images=len(train)),
        total_steps=total_steps(config, len(train)),
    )


def train(specs: Mapping[str, tuple[str, ...]], root: Path) -> tuple[dict[str, Part], list[dict[str, Any]]]:
    """Train the members, by name to overrides, as one pack: their final checkpoints, and what was told."""
    members = [make_member(name, root, job, *words) for job, (name, words) in enumerate(specs.items())]
    sink = ListSink(root)
    config = members[0].config
    task = open_task("regression", open_base(config.model), dtype=torch.float64, device=torch.device("cpu"))
    train_pack(task, members, sink=sink, folder=root / "pack")
    return {m.name: load_newest(m.folder / "checkpoints")[0] for m in members}, sink.events
