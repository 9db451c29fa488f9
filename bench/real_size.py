"""Stable Diffusion 1.5's real size on the CPU: one job and four ranks, against kohya and diffusers' example."""

from __future__ import annotations

import csv
import resource
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import kohya
from bench.example import Example, Training, add_options, run_timed
from bench.kohya import TARGETS, Kohya
from bench.measure import Claim, Result, Table, arguments, median, ratio
from bench.real_base import make_base
from lora_foundry.config.compose import compose_job
from lora_foundry.config.paths import locate
from lora_foundry.wire.outcomes import read_outcomes

LIMIT_ONE, LIMIT_SWEEP = 1.15, 2.0
LIMIT_LESS = 1.0  # against the example, which trains two thirds of the layers and records nothing
RANKS = (4, 8, 16, 32)
IMAGES = 16
UNTUNED = {"GLIBC_TUNABLES": ""}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one run took, all of its processes.

    Attributes:
        seconds: From the command to its end.
        system_s: Processor time of the kernel.
        faults: Pages that the kernel had to give.
        steps_per_s: Of the training alone; null where it is not told.
    """

    seconds: float
    system_s: float
    faults: int
    steps_per_s: float | None


class Foundry:
    """This project's own command on the base and the images.

    Args:
        folder: For its cache, runs and outputs.
        base: A diffusers folder.
        images: Captioned images.
    """

    def __init__(self, folder: Path, base: Path, images: Path) -> None:
        self.folder, self.base, self.images = folder, base, images
        folder.mkdir()

    def run(self, training: Training, *, ranks: Sequence[int] = (), environment: dict[str, str] | None = None) -> float:
        """Wall seconds of one job, or of a sweep of ``ranks``."""
        shutil.rmtree(self.folder / "sweep", ignore_errors=True)
        overrides = {
            **{"model": "sd15", "model.path": self.base, "data": "folder", "data.path": self.images, "data.name": "x"},
            "data.resolution": 64,
            "data.batch_size": training.batch,
            "data.cache_dir": self.folder / "cache",
            "lora.rank": ",".join(map(str, ranks or (training.rank,))),
            "lora.target_modules": f"[{','.join(TARGETS)}]",
            "optimizer.lr": 1e-4,
            "scheduler": "constant",
            "scheduler.warmup_steps": 0,
            "trainer.max_steps": training.steps,
            **{"sample": "none", "validation.every": "null", "validation.max_images": 1, "validation.timesteps": 1},
            **{"tracking.root": self.folder / "mlruns", "hydra.sweep.dir": self.folder / "sweep"},
        }
        words = [f"{key}={value}" for key, value in overrides.items()]
        return run_timed([sys.executable, "-m", "src.train", *words, "-m"], folder=self.folder, environment=environment)

    def steps_per_s(self) -> float:
        """Of the last run's first job."""
        done = read_outcomes(self.folder / "sweep")[0].summary
        return done.steps / done.seconds if done is not None and done.steps and done.seconds else 0.0


def cost(run: Callable[[], float], speed: Callable[[], float] | None = None) -> Cost:
    """Run and look at what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(
        seconds=seconds,
        system_s=after.ru_stime - before.ru_stime,
        faults=after.ru_minflt - before.ru_minflt,
        steps_per_s=None if speed is None else speed(),
    )


def write_images(folder: Path) -> Path:
    """Some of the demo's training images with a text file each, in a folder named as kohya wants it."""
    source, target = locate(compose_job().data.path), folder / "1_x"
    target.mkdir(parents=True)
    with (source / "metadata.csv").open(newline="", encoding="utf-8-sig") as file:
        for row in list(csv.DictReader(file))[:IMAGES]:
            copy = target / Path(row["filename"]).name
            shutil.copy(source / row["filename"], copy)
            copy.with_suffix(".txt").write_text(row["prompt"])
    return target


def cases_of(options: Namespace, folder: Path, steps: int) -> dict[str, Callable[[], Cost]]:
    """What is measured in every round, by name."""
    base = make_base(options.base or folder / "base")
    ours = Foundry(folder / "ours", base, write_images(folder / "images"))
    theirs = None
    if options.kohya:
        data = write_images(folder / "for-kohya").parent  # it puts its cache beside the images
        theirs = Kohya(options.kohya, folder / "kohya", base, data, options.kohya_packages)
    example = None
    if options.example:
        example = Example(options.example, folder / "example", options.example_packages, base)
    ours.run(Training(steps=1))  # these fill the caches, which no side is charged for
    if theirs:
        theirs.run(Training(steps=1))
    if example:
        example.run(Training(steps=1))
    cases: dict[str, Callable[[], Cost]] = {}
    for batch in (1, 4):
        training = Training(steps=steps, batch=batch)
        cases[f"foundry {batch}"] = partial(cost, partial(ours.run, training), ours.steps_per_s)
        if theirs:
            cases[f"kohya {batch}"] = partial(cost, partial(theirs.run, training), theirs.steps_per_s)
        if example:
            cases[f"example {batch}"] = partial(cost, partial(example.run, training))
    cases["untuned 4"] = partial(cost, partial(ours.run, training, environment=UNTUNED), ours.steps_per_s)
    sweep = partial(ours.run, Training(steps=steps), ranks=RANKS)
    cases["foundry sweep"] = partial(cost, sweep, ours.steps_per_s)
    return cases


def report(costs: Mapping[str, list[Cost]], *, steps: int, rounds: int, quick: bool) -> Result:
    """Tables and claims of what every round found."""
    result = Result(
        name="real_size",
        title="At Stable Diffusion 1.5's real size",
        how=(
            "Whole processes on a base of Stable Diffusion 1.5's real size with random weights (UNet of 859.5 M "
            f"parameters, fp32), {IMAGES} images at 64 px, rank 8 on kohya's own 192 layers, {steps} steps, AdamW, "
            "caches filled before. Ours validates at the end, checks its files on the base and records in MLflow; "
            "kohya's `train_network.py` runs with `--network_train_unet_only --cache_latents_to_disk --sdpa`, "
            "diffusers' example trains the 128 attention layers that it offers. The sweep trains ranks "
            f"{', '.join(map(str, RANKS))} at batch 1 in one pack, against four runs of the others. Steps a second are "
            "of the training alone, as each side tells it; in the sweep all four adapters step. 'glibc as it comes' is "
            f"this project with `GLIBC_TUNABLES=` set empty. In turns for {rounds} rounds; medians, and ratios round "
            "by round."
        ),
        quick=quick,
    )
    columns = ["what", "wall, s", "steps/s", "page faults, M", "system time, s"]
    table = Table(title="One job, and a sweep of four", columns=columns)
    names = {"foundry": "foundry", "kohya": "kohya", "example": "diffusers' example", "untuned": "glibc as it comes"}
    for name, runs in costs.items():
        side, _, what = name.partition(" ")
        label = f"{names[side]}, {'four ranks at batch 1' if what == 'sweep' else f'batch {what}'}"
        told = [run.steps_per_s for run in runs if run.steps_per_s is not None]
        cells = [f"{median([run.seconds for run in runs]):.1f}", f"{median(told):.2f}" if told else ""]
        cells += [f"{median([run.faults / 1e6 for run in runs]):.1f}", f"{median([run.system_s for run in runs]):.1f}"]
        table.rows.append([label, *cells])
    result.tables.append(table)
    result.claims += [claim for side in ("kohya", "example") for claim in claims_over(side, names[side], costs)]
    return result


def claims_over(side: str, name: str, costs: Mapping[str, list[Cost]]) -> Iterator[Claim]:
    """How much quicker this project is than ``side``, where that was run."""
    one = LIMIT_ONE if side == "kohya" else LIMIT_LESS
    for what, times, limit in (("1", 1, one), ("4", 1, one), ("sweep", len(RANKS), LIMIT_SWEEP)):
        other = costs.get(f"{side} {'1' if what == 'sweep' else what}")
        if other is None:
            continue
        over = ratio([times * run.seconds for run in other], [run.seconds for run in costs[f"foundry {what}"]])
        job = f"one job at real size, batch {what}, against {name}"
        yield Claim(
            what=f"four ranks at real size against four runs of {name}" if what == "sweep" else job,
            measured=f"{over:.2f}x as fast",
            limit=f"at least {limit}x",
            holds=over >= limit,
        )


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--steps", type=int, default=None, help="of every run (20)")
    parser.add_argument("--base", type=Path, default=None, help="where the base is kept, made if it is not there")
    add_options(parser)
    kohya.add_options(parser)
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 3)
    steps = options.steps or (4 if options.quick else 20)
    costs: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        cases = cases_of(options, Path(name), steps)
        for _ in range(rounds):
            for case, run in cases.items():
                costs.setdefault(case, []).append(run())
                print(f"{case}: {costs[case][-1]}", flush=True)
    report(costs, steps=steps, rounds=rounds, quick=options.quick).save()


if __name__ == "__main__":
    main()
