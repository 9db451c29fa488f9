"""A sweep's folder as launcher and worker write it, and what a store holds of it afterwards."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from PIL import Image

from lora_foundry.config.schema import JobConfig
from lora_foundry.tracking import JobRecord
from tests.launch.jobs import job

COMMAND = "python -m src.train lora.rank=4,8,16 -m"


def a_job_config() -> JobConfig:
    """A whole configuration; only its shape matters here."""
    return job(
        data__name="flat",
        data__val_path=None,
        lora__rank=4,
        lora__alpha=4.0,
        lora__target_modules=("to_q", "to_v"),
        lora__init_from=None,
        optimizer__lr=2e-3,
        optimizer__betas=(0.9, 0.999),
        sample__prompts=("red heart",),
        tracking__experiment="lora-foundry",
    )


class Sweep:
    """A sweep's folder with events that a test adds."""

    def __init__(self, folder: Path, config: JobConfig, jobs: int) -> None:
        """``jobs`` jobs of ranks 4, 8, 16, ... in one pack."""
        self.dir = folder
        self.id = folder.name
        (folder / "spool").mkdir(parents=True)
        self.records = [self._record(index, config) for index in range(jobs)]
        self.clock = time.time() - 1000.0

    def _record(self, index: int, config: JobConfig) -> JobRecord:
        rank = 4 * 2**index
        folder = self.dir / str(index)
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "config.yaml").write_text(f"lora: {{rank: {rank}}}\n")
        return JobRecord(
            index=index,
            name=f"flat-rank{rank}",
            dir=folder,
            config=replace(config, lora=replace(config.lora, rank=rank)),
            overrides={"lora.rank": str(rank)},
            pack="pack-0",
        )

    def write(self, kind: str, job: int | None, pack: str = "pack-0", **fields: Any) -> None:
        """Append one event, each a second after the last."""
        self.clock += 1.0
        event = {"t": self.clock, "kind": kind, "job": job, **fields}
        with (self.dir / "spool" / f"{pack}.jsonl").open("a") as file:
            file.write(json.dumps(event) + "\n")

    def metrics(self, job: int, step: int, **values: float) -> None:
        """A metrics event of a job with batches of four."""
        named = {key.replace("__", "/"): value for key, value in values.items()} or {"train/loss": 1.0 / (step + 1)}
        self.write("metrics", job, step=step, samples=4 * step, values=named)

    def picture(self, job: int, step: int, prompt: str = "red heart", scale: float = 1.0, side: int = 16) -> None:
        """A drawn picture and its event."""
        path = f"{job}/samples/step-{step:08d}/{prompt.replace(' ', '-')}-s0-x{scale:.2f}.png"
        (self.dir / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (40 * job, 90, int(200 * scale) % 256)).save(self.dir / path)
        key = f"samples/{prompt}/scale {scale}"
        fields = {"key": key, "prompt": prompt, "seed": 0, "scale": scale, "path": path}
        self.write("image", job, step=step, samples=4 * step, **fields)

    def state(self, job: int, state: str, error: str | None = None) -> None:
        """A state event; FINISHED with a summary."""
        summary = None
        if state == "FINISHED":
            summary = {"val_loss": 0.2, "val_loss_rel": 0.8, "steps": 9, "samples": 36, "seconds": 5.5, "bytes": 1234}
            summary |= {"best_step": 6, "file": f"{job}/adapter/a.safetensors", "diffusers_file": None}
            summary |= {"best_val_loss": 0.19, "best_val_loss_rel": 0.76}
            summary |= {"best_file": f"{job}/adapter/best/a.safetensors"}
        self.write("state", job, state=state, error=error, summary=summary)


class Recorded:
    """What a store holds of one sweep."""

    def __init__(self, sweep: Sweep) -> None:
        """Read the sweep's runs, whatever their state."""
        track = json.loads((sweep.dir / "tracking.json").read_text())
        self.client = MlflowClient(tracking_uri=track["uri"])
        experiment = self.client.get_experiment_by_name(track["experiment"])
        assert experiment is not None
        self.runs = list(self.client.search_runs([experiment.experiment_id], f"tags.sweep = '{sweep.id}'"))
        self.children = {int(run.data.tags["job"]): run for run in self.runs if run.data.tags["role"] == "job"}
        (self.parent,) = [run for run in self.runs if run.data.tags["role"] == "sweep"]
        assert len(self.runs) == len(self.children) + 1

    def steps(self, job: int, key: str) -> list[int]:
        """The steps at which ``key`` was logged, in the order of the store, repetitions included."""
        return [metric.step for metric in self.client.get_metric_history(self.children[job].info.run_id, key)]

    def statuses(self) -> dict[int, str]:
        """Status by job, the parent's under -1."""
        return {-1: self.parent.info.status} | {job: run.info.status for job, run in self.children.items()}

    def images(self, job: int) -> list[str]:
        """Names of the job's pictures up to their time, thumbnails marked by ``small``."""
        found = self.client.list_artifacts(self.children[job].info.run_id, "images")
        parts = [(Path(item.path).name.split("+timestamp")[0], "+compressed" in item.path) for item in found]
        return sorted(f"{name} small" if small else name for name, small in parts)
