"""Fitting numbers with adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_foundry.config.streams import stream_key
from lora_foundry.lora.formats.adapter import Adapter
from lora_foundry.lora.formats.diffusers_file import write_diffusers
from lora_foundry.lora.formats.metadata import FileMetadata
from lora_foundry.lora.formats.sidecar import write_sidecar
from lora_foundry.tasks import Files, FixedRows, Inputs, Judged, Shown, StepRows


class Regression:
    """Implements :class:`lora_foundry.tasks.protocol.Task`."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def rows(self, member: Any, ordinals: range, dtype: torch.dtype) -> StepRows:
        """A sample's questions are jittered by its ordinal, and every third counts otherwise."""
        x, y = (values[[member.order.draw(ordinal).image for ordinal in ordinals]] for values in member.material.train)
        jitter = [_normal(stream_key(member.config.seed, "jitter", ordinal), x.shape[1]) for ordinal in ordinals]
        third = member.config.objective.third
        weight = torch.tensor([third if ordinal % 3 == 0 else 1.0 for ordinal in ordinals])
        return StepRows(inputs={"x": (x + torch.stack(jitter)).to(dtype), "y": y.to(dtype)}, weight=weight.to(dtype))

    def losses(self, inputs: Inputs) -> Tensor:
        return self.judged(inputs).losses

    def judged(self, inputs: Inputs) -> Judged:
        got, asked = self.base.answer(inputs["x"]), inputs["y"]
        return Judged(losses=(got - asked).square().mean(1), prediction=got, target=asked)

    def whole(self, member: Any) -> float:
        return member.config.data.batch_size * member.config.trainer.accumulate

    def samples(self, member: Any) -> int:
        return len(member.material.train[0])

    def held_out(self, member: Any) -> object:
        return member.material.held_out

    def fixed_rows(self, member: Any, dtype: torch.dtype) -> FixedRows:
        x, y = (values.to(dtype) for values in member.material.held_out)
        groups, items = {"large": y.abs().sum(1) > 2}, tuple(f"pair-{row // 2}" for row in range(len(x)))
        return FixedRows(inputs={"x": x, "y": y}, per_forward=4, groups=groups, items=items)

    def check_rows(self, member: Any, dtype: torch.dtype) -> None:
        """None: all of them are judged."""

    def drift_rows(self, member: Any, pack: Any, dtype: torch.dtype) -> None:
        """None: nothing is unrelated to numbers."""

    def decides(self) -> Mapping[str, object]:
        return {}

    def shows(self, member: Any) -> bool:  # noqa: ARG002
        return True

    def showing(self, pack: Any) -> Regression:  # noqa: ARG002
        return self

    def measured(self) -> Mapping[str, Mapping[str, float]]:
        return {}

    def show(self, members: Sequence[Any]) -> dict[str, list[Shown]]:
        """Words, not a picture."""
        return {m.name: [_words(f"{m.name} at {m.count.step}")] for m in members}

    def probe(self, member: Any, dtype: torch.dtype) -> Inputs:
        return {"x": member.material.held_out[0][:2].to(dtype)}

    def outputs(self, inputs: Inputs) -> Tensor:
        return self.base.answer(inputs["x"])

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


def _normal(key: int, width: int) -> Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(key), dtype=torch.float64) * 0.1


def open_task(files: Any, *, dtype: torch.dtype, device: torch.device) -> Regression:  # noqa: ARG001
    return Regression(files.load(dtype))
