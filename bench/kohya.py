"""Running kohya's ``train_network.py``, of which the user gives a checked-out copy; none is kept here."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

from bench.example import Training, run_timed

# What kohya trains where nothing is said: every linear layer and 1x1 convolution of the 16 transformers, 192 in all.
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
# What its own tokenizer is called in the folder that it looks into before the hub.
_TOKENIZER = "openai_clip-vit-large-patch14"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where kohya's scripts and what they import are."""
    parser.add_argument("--kohya", type=Path, default=None, help="a copy of kohya-ss/sd-scripts")
    parser.add_argument(
        "--kohya-packages", type=Path, default=None, help="a folder with the packages of its requirements.txt"
    )


class Kohya:
    """Its LoRA on a base and a folder of captioned images, with its default targets: 192 modules of the UNet.

    Args:
        copy: The checked-out scripts.
        folder: For its tokenizer and its outputs.
        base: A diffusers folder.
        data: Holds a folder ``1_<name>`` of images with ``.txt`` captions.
        packages: A folder with the versions that its requirements.txt pins, or None when they are installed.
    """

    def __init__(self, copy: Path, folder: Path, base: Path, data: Path, packages: Path | None) -> None:
        self.copy, self.folder, self.base, self.data = copy.resolve(), folder, base, data
        shutil.copytree(base / "tokenizer", folder / "tokenizers" / _TOKENIZER, dirs_exist_ok=True)
        paths = [str(self.copy), *([str(packages.resolve())] if packages else [])]
        paths += [path for path in [os.environ.get("PYTHONPATH")] if path]
        self.environment = {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}

    def run(self, training: Training) -> float:
        """Wall seconds of one run."""
        options = {
            "pretrained_model_name_or_path": self.base,
            "train_data_dir": self.data,
            "resolution": "64,64",
            "output_dir": self.folder / "out",
            "output_name": "one",
            "network_module": "networks.lora",
            "network_dim": training.rank,
            "network_alpha": training.rank,
            "train_batch_size": training.batch,
            "max_train_steps": training.steps,
            "mixed_precision": "no",
            "optimizer_type": "AdamW",
            "learning_rate": 1e-4,
            "lr_scheduler": "constant",
            "save_model_as": "safetensors",
            "seed": training.seed,
            "caption_extension": ".txt",
            "max_data_loader_n_workers": 0,
            "tokenizer_cache_dir": self.folder / "tokenizers",
        }
        flags = ["--network_train_unet_only", "--cache_latents", "--cache_latents_to_disk", "--sdpa"]
        pairs = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        script = [str(self.copy / "train_network.py"), *pairs, *flags]
        return run_timed(
            [sys.executable, "-m", "bench.stand_in.run", *script], folder=self.folder, environment=self.environment
        )

    def steps_per_s(self) -> float:
        """Of the last run, as its own progress bar says, which counts nothing but steps."""
        said = re.findall(r"([\d.]+)(s/it|it/s)", (self.folder / "output.log").read_text(errors="replace"))
        number, unit = said[-1]
        return float(number) if unit == "it/s" else 1 / float(number)
