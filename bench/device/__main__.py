"""Measure a card, in the order of worth; ``--cpu`` runs small where there is none."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from bench.__main__ import NO_CARD
from bench.device.correctness import correctness
from bench.device.facts import facts
from bench.device.graphs import graphs
from bench.device.kernels import convolutions, profiled
from bench.device.launching import launcher
from bench.device.limits import decoding, ladder
from bench.device.packs import packs, variants
from bench.device.peers import peers
from bench.device.stage import Stage
from bench.measure import Result, arguments
from lora_foundry.config.surroundings import CUBLAS, CUBLAS_REPEATS

# With the seconds that each takes on an H100, about: it is not begun with fewer left.
SECTIONS: tuple[tuple[str, Callable[[Stage], None], float], ...] = (
    ("facts", facts, 5),
    ("correctness", correctness, 30),
    ("packs", packs, 30),
    ("profile", profiled, 25),
    ("graphs", graphs, 15),
    ("convolutions", convolutions, 10),
    ("ladder", ladder, 25),
    ("decoding", decoding, 10),
    ("launcher", launcher, 45),
    ("peers", peers, 40),
    ("other settings", variants, 25),
)


def main() -> int:
    """Measure, print, save; 1 when a section fell over."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--cpu", action="store_true", help="small, on the CPU")
    parser.add_argument("--minutes", type=float, default=8.8, help="to stay within (8.8)")
    parser.add_argument("--kohya", type=Path, default=None, help="a copy of kohya-ss/sd-scripts, to measure beside")
    parser.add_argument("--only", nargs="+", choices=[name for name, *_ in SECTIONS], help="these sections alone")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        sys.stderr.write("torch sees no card here; --cpu runs small on the CPU\n")
        return NO_CARD
    os.environ.setdefault(CUBLAS, CUBLAS_REPEATS[0])  # as workers have it, before CUDA starts
    device = torch.device("cpu") if options.cpu else torch.device("cuda", 0)
    name = "the CPU (a small look)" if options.cpu else torch.cuda.get_device_name(device)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(
            device=device,
            folder=Path(folder),
            minutes=options.minutes,
            kohya=options.kohya,
            result=_result(name, small=options.cpu),
        )
        for section, call, least_s in SECTIONS:
            if options.only is None or section in options.only:
                stage.run(section, call, 0.0 if stage.small else least_s)
        stage.result.save()
    return 1 if stage.failed else 0


def _result(device: str, *, small: bool) -> Result:
    return Result(
        name="device",
        title="On a card",
        how=(
            f"On {device}, offline, from the tree. Correctness: four members of ranks 4, 8 and 16 and batches 1, 2 and "
            "4 on the embedded base, each adapter as one vector after three steps. Speed: the UNet of Stable Diffusion "
            "1.5 at its real size with weights drawn on the card (small: the embedded base), 512 px, bf16, rank 8 on "
            "attention. A step draws its samples, runs forward and backward, clips and takes AdamW's step; medians of "
            "about 2 s. Processes train at the same time, one job each. An adapter is 1000 steps of its batch, without "
            "loading and validation. The host's share is that of a step in which no kernel runs."
        ),
        quick=small,
        device=device,
    )


if __name__ == "__main__":
    sys.exit(main())
