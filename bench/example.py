"""Running diffusers' own ``train_text_to_image_lora.py``, of which the user gives a copy; none is kept here."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench import PROJECT_ROOT
from lora_foundry.config.compose import compose_job
from lora_foundry.config.paths import locate


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What both sides train.

    Attributes:
        steps: Optimizer steps.
        batch: Samples of one.
        rank: LoRA rank, on attention (the example offers no other targets).
        seed: Of everything random.
    """

    steps: int
    batch: int = 1
    rank: int = 8
    seed: int = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where the example and what it imports are."""
    parser.add_argument("--example", type=Path, default=None, help="a copy of train_text_to_image_lora.py")
    parser.add_argument(
        "--example-packages", type=Path, default=None, help="a folder with `datasets`, if it is installed apart"
    )


def run_timed(command: list[str], *, folder: Path, environment: dict[str, str] | None = None) -> float:
    """Wall seconds of a command; its output is kept in ``folder``.

    Raises:
        RuntimeError: When it fails, with the end of its output.
    """
    log = folder / "output.log"
    start = time.perf_counter()
    with log.open("wb") as output:
        done = subprocess.run(
            command,
            cwd=PROJECT_ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    seconds = time.perf_counter() - start
    if done.returncode:
        end = log.read_text(errors="replace")[-2000:]
        msg = f"{' '.join(command[:4])} ... ended with exit code {done.returncode}; the end of its output:\n{end}"
        raise RuntimeError(msg)
    return seconds


class Example:
    """The example on the embedded base and the demo's images.

    Args:
        script: A copy of the example.
        folder: For its data, its cache and its outputs.
        packages: A folder with ``datasets``, or None when it is installed.
        base: Another base, a diffusers folder.
    """

    def __init__(self, script: Path, folder: Path, packages: Path | None, base: Path | None = None) -> None:
        self.script, self.folder, self.base = script.resolve(), folder, base or locate("assets/tiny-sd")
        folder.mkdir(parents=True, exist_ok=True)
        self.data = self._copy_data()
        self.runner = ["-m", "bench.stand_in.run"] if importlib.util.find_spec("torchvision") is None else []
        paths = [str(packages.resolve())] if packages else []
        paths += [path for path in [os.environ.get("PYTHONPATH")] if path]
        self.environment = {
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_OFFLINE": "1",
        }

    def run(self, training: Training) -> float:
        """Wall seconds of one run."""
        output = self.folder / "out"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        options = {
            "pretrained_model_name_or_path": self.base,
            "train_data_dir": self.data,
            "caption_column": "text",
            "resolution": 64,
            "train_batch_size": training.batch,
            "max_train_steps": training.steps,
            "rank": training.rank,
            "seed": training.seed,
            "learning_rate": 2e-3,
            "lr_scheduler": "cosine",
            "lr_warmup_steps": 10,
            "checkpointing_steps": 10**6,
            "mixed_precision": "no",
            "output_dir": output,
        }
        flags = ["--center_crop", "--random_flip"]
        pairs = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = [sys.executable, *self.runner, str(self.script), *pairs, *flags]
        return run_timed(command, folder=self.folder, environment=self.environment)

    def _copy_data(self) -> Path:
        """The demo's training images with the example's column names."""
        source, target = locate(compose_job().data.path), self.folder / "data"
        target.mkdir(exist_ok=True)
        with (source / "metadata.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        with (target / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "text"])
            for row in rows:
                shutil.copy(source / row["filename"], target / Path(row["filename"]).name)
                writer.writerow([Path(row["filename"]).name, row["prompt"]])
        return target
