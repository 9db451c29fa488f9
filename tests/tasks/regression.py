"""A third family that knows no picture: a frozen network of numbers, and the task of fitting others with adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_foundry.config.compose import compose_job
from lora_foundry.config.length import total_steps
from lora_foundry.config.streams import stream_key
from lora_foundry.data.order import SampleOrder
from lora_foundry.lora.formats.adapter import Adapter
from lora_foundry.lora.formats.diffusers_file import write_diffusers
from lora_foundry.lora.formats.metadata import FileMetadata
from lora_foundry.lora.formats.sidecar import write_sidecar
from lora_foundry.models.targets import resolve_targets, target_layers
from lora_foundry.tasks import Files, FixedRows, Inputs, Judged, Shown, StepRows
from lora_foundry.training.checkpoint import Part, load_newest
from lora_foundry.training.fit import train_pack
from lora_foundry.training.member import Member, Provenance
from lora_foundry.training.sink import ListSink

WIDTH, ANSWERS = 6, 3
QUICK = (
    "sample=none",
    "trainer.max_steps=20",
    "trainer.precision=64-true",
    "trainer.accelerator=cpu",
    "validation.every=5",
    "scheduler.warmup_steps=2",
    "optimizer.lr=0.01",
    "lora.target_modules=[first,second]",
)


class Network(nn.Module):
    """Two layers and a bend."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 8), nn.Linear(8, ANSWERS)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Regressor:
    """Implements :class:`lora_foundry.models.protocol.Base`."""

    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.module = Network().double().requires_grad_(requires_grad=False).eval()
        self.layers: Mapping[str, str] = target_layers(self.module)

    def set_gradient_checkpointing(self, *, enabled: bool) -> None:
        """Nothing is worth computing twice."""

    def target_names(self, target_modules: str | Sequence[str]) -> list[str]:
        return resolve_targets(self.layers, target_modules)


@dataclass(frozen=True)
class Numbers:
    """Questions ``[S, WIDTH]`` and answers ``[S, ANSWERS]``, to learn from and to be judged on."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]


class Regression:
    """Implements :class:`lora_foundry.tasks.protocol.Task`."""

    def __init__(self) -> None:
        self.base = Regressor()

    def rows(self, member: Any, ordinals: range, dtype: torch.dtype) -> StepRows:
        """A sample's questions are jittered by its ordinal, and every third counts twice."""
        x, y = (values[[member.order.draw(ordinal).image for ordinal in ordinals]] for values in member.material.train)
        jitter = [_normal(stream_key(member.config.seed, "jitter", ordinal)) for ordinal in ordinals]
        weight = torch.tensor([2.0 if ordinal % 3 == 0 else 1.0 for ordinal in ordinals])
        return StepRows(inputs={"x": (x + torch.stack(jitter)).to(dtype), "y": y.to(dtype)}, weight=weight.to(dtype))

    def losses(self, inputs: Inputs) -> Tensor:
        return self.judged(inputs).losses

    def judged(self, inputs: Inputs) -> Judged:
        got, asked = self.base.module(inputs["x"]), inputs["y"]
        return Judged(losses=(got - asked).square().mean(1), prediction=got, target=asked)

    def whole(self, member: Any) -> float:
        return member.config.data.batch_size * member.config.trainer.accumulate

    def samples(self, member: Any) -> int:
        return len(member.material.train[0])

    def held_out(self, member: Any) -> object:
        return member.material.held_out

    def fixed_rows(self, member: Any, dtype: torch.dtype) -> FixedRows:
        x, y = (values.to(dtype) for values in member.material.held_out)
        return FixedRows(inputs={"x": x, "y": y}, per_forward=4, groups={"large": y.abs().sum(1) > 2})

    def decides(self) -> Mapping[str, object]:
        return {}

    def shows(self, member: Any) -> bool:  # noqa: ARG002
        return True

    def showing(self, pack: Any) -> Regression:  # noqa: ARG002
        return self

    def show(self, members: Sequence[Any]) -> dict[str, list[Shown]]:
        """Words, not a picture."""
        return {m.name: [_words(f"{m.name} at {m.count.step}")] for m in members}

    def probe(self, member: Any, dtype: torch.dtype) -> Inputs:
        return {"x": member.material.held_out[0][:2].to(dtype)}

    def outputs(self, inputs: Inputs) -> Tensor:
        return self.base.module(inputs["x"])

    def file_metadata(self, member: Any, *, started_at: float) -> FileMetadata:
        return FileMetadata(
            base_version="sd_v1",  # readers of the one format that there is know no other word
            base_name="regressor",
            prediction_type="epsilon",
            resolution=1,
            train_images=self.samples(member),
            started_at=started_at,
        )

    def write(self, folder: Path, stem: str, adapter: Adapter, meta: FileMetadata, dtype: torch.dtype) -> Files:
        """One file, of PEFT's keys, serves all."""
        file, card = folder / f"{stem}.safetensors", folder / f"{stem}.json"
        write_diffusers(file, adapter, meta, dtype)
        write_sidecar(card, meta)
        return Files(file=file, for_code=file, card=card)


def _words(text: str) -> Shown:
    return Shown(prompt="what", seed=0, scale=1.0, file="what.txt", key="what", content=text.encode())


def _normal(key: int) -> Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(key), dtype=torch.float64) * 0.1


def make_member(name: str, folder: Path, job: int, *overrides: str) -> Member:
    """A member that learns one linear map of random questions."""
    config = compose_job(*QUICK, *overrides)
    draw = torch.Generator().manual_seed(1)
    map_ = torch.randn(WIDTH, ANSWERS, generator=draw, dtype=torch.float64)
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
    train_pack(Regression(), members, sink=sink, folder=root / "pack")
    return {m.name: load_newest(m.folder / "checkpoints")[0] for m in members}, sink.events
