"""Stable Diffusion 1.5's real size on a GPU: one job, K jobs as K processes, K jobs as one pack; small on a CPU.

``python -m bench.gpu`` needs no weights: they are drawn at random, which times and sizes like the real ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.measure import Claim, Result, Table, arguments
from src.config.compose import compose_job
from src.config.paths import PROJECT_ROOT
from src.memory.predict import curve_of

GIB = 2**30
LIMIT = 0.10
STEPS_AN_ADAPTER = 1000
REAL = ("model=sd15", "data.resolution=512", "trainer.precision=bf16-mixed", "lora.target_modules=attention")
TOY = ("model=tiny-sd", "data.resolution=64", "trainer.precision=bf16-mixed", "lora.target_modules=attention")
WAYS = {"one": "one job", "processes": "{} processes", "pack": "a pack of {}"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is measured at once.

    Attributes:
        way: A key of :data:`WAYS`.
        jobs: K.
        batch: Samples of a job's step.
    """

    way: str
    jobs: int
    batch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """How a case went.

    Attributes:
        images_per_s: Of all jobs together.
        step_s: Seconds of a step: of the pack, or of a process beside the others.
        peak: Bytes of tensors at the peak, all processes together.
        card: Bytes of the card that are taken: what the allocators hold, and a context a process.
    """

    images_per_s: float
    step_s: float
    peak: int
    card: int


def cases(jobs: Sequence[int], batches: Sequence[int]) -> list[Case]:
    """One job, then K as processes and K as a pack, at each batch size."""
    listed = []
    for batch in batches:
        listed.append(Case(way="one", jobs=1, batch=batch))
        listed += [Case(way=way, jobs=k, batch=batch) for k in jobs if k > 1 for way in ("processes", "pack")]
    return listed


def measure(case: Case, overrides: Sequence[str], *, seconds: float, small: bool) -> Measured | None:
    """Run a case; None when it does not fit on the card.

    Raises:
        RuntimeError: When a process ends without a result.
    """
    processes, members = (case.jobs, 1) if case.way == "processes" else (1, case.jobs)
    words = [*overrides, f"data.batch_size={case.batch}"]
    task = {"overrides": words, "members": members, "seconds": seconds, "small": small}
    started = [_start(task) for _ in range(processes)]
    try:
        told = [_answer(process) for process in started]
        if any("full" in one for one in told):
            return None
        for process in started:
            _tell(process, "go\n")
        told = [_answer(process) for process in started]
    finally:
        for process in started:
            process.communicate()  # its standard input ends, and so does it
    if any("full" in one for one in told):
        return None
    images = members * case.batch
    return Measured(
        images_per_s=sum(images * one["steps"] / one["seconds"] for one in told),
        step_s=sum(one["seconds"] / one["steps"] for one in told) / processes,
        peak=sum(one["peak"] for one in told),
        card=sum(one["held"] for one in told) + processes * min(one["context"] for one in told),
    )


def _start(task: Mapping[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "bench.gpu_worker"]
    process = subprocess.Popen(
        command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    _tell(process, json.dumps(task) + "\n")
    return process


def _tell(process: subprocess.Popen[str], line: str) -> None:
    if process.stdin is None:
        msg = "the process was started without a pipe"
        raise TypeError(msg)
    process.stdin.write(line)
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        msg = f"a process of the bench ended with status {process.wait()} and without a result; its error is above"
        raise RuntimeError(msg)
    answer: dict[str, Any] = json.loads(line)
    return answer


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--small", action="store_true", help="the embedded base on the CPU, as without CUDA")
    parser.add_argument("--seconds", type=float, default=None, help="of training a case (20, small 1)")
    options = parser.parse_args()
    small = options.small or not torch.cuda.is_available()
    seconds = options.seconds or (1.0 if small or options.quick else 20.0)
    jobs, batches = ((1, 2), (1,)) if small or options.quick else ((1, 2, 4, 8), (1, 2, 4))
    found: dict[Case, Measured | None] = {}
    predicted: dict[Case, int] = {}
    with tempfile.TemporaryDirectory() as cache:
        overrides = [*(TOY if small else REAL), f"data.cache_dir={cache}"]
        for case in cases(jobs, batches):
            predicted[case] = predict(case, overrides)
            found[case] = measure(case, overrides, seconds=seconds, small=small)
            print(f"{_named(case)}, batch {case.batch}: {found[case]}", flush=True)
    device = "the CPU (a small look)" if small else torch.cuda.get_device_name()
    judge(found, predicted, device=device, seconds=seconds, quick=small or options.quick).save()


def predict(case: Case, overrides: Sequence[str]) -> int:
    """Bytes of tensors that the case should take."""
    config = compose_job(*overrides, f"data.batch_size={case.batch}")
    copies, members = (case.jobs, 1) if case.way == "processes" else (1, case.jobs)
    needs = curve_of(config).needs(members * case.batch, [config.optimizer.name] * members)
    return copies * needs.tensors


def judge(
    found: Mapping[Case, Measured | None], predicted: Mapping[Case, int], *, device: str, seconds: float, quick: bool
) -> Result:
    """Rows of the table, and the prediction against its limit."""
    rows, errors = [], []
    for case, one in found.items():
        guess = predicted[case]
        if one is None:
            rows.append([str(case.batch), _named(case), "out of memory", "", "", "", "", f"{guess / GIB:.2f}", "", ""])
            continue
        solo = found.get(Case(way="one", jobs=1, batch=case.batch))
        errors.append(guess / one.peak - 1)
        rows.append(
            [
                *(str(case.batch), _named(case), f"{one.images_per_s:.2f}"),
                f"{one.images_per_s / solo.images_per_s:.2f}x" if solo is not None else "",
                *(f"{one.step_s * 1e3:.0f}", f"{one.card / GIB:.2f}", f"{one.peak / GIB:.2f}", f"{guess / GIB:.2f}"),
                *(f"{errors[-1] * 100:+.1f} %", f"{adapters_an_hour(case, one):.1f}"),
            ]
        )
    worst = max(errors, key=abs, default=0.0)
    what = "predicted against allocated tensors, one job, processes and packs, worst of the table"
    claim = Claim(
        what=what,
        measured=f"{worst * 100:+.1f} %" if errors else "nothing fits",
        limit=f"within {LIMIT * 100:g} %",
        holds=bool(errors) and abs(worst) <= LIMIT,
    )
    columns = ["batch", "jobs", "images/s", "over one job", "ms a step", "GiB of the card", "GiB of tensors"]
    columns += ["predicted", "off by", "adapters an hour"]
    return Result(
        name="gpu",
        title="Jobs, processes and packs on a GPU",
        how=(
            f"Stable Diffusion 1.5's UNet at its real size with random weights at 512 px in bf16 on {device} (small: "
            "the embedded base at 64 px), rank 8 on attention. A step draws its samples, runs forward and backward, "
            f"clips and takes AdamW's step; each case trains for {seconds:g} s after a few steps, the processes of a "
            "case at the same time. GiB of the card are what the allocators hold and a CUDA context a process. An "
            f"adapter is {STEPS_AN_ADAPTER} steps of its batch, without loading and validation."
        ),
        quick=quick,
        claims=[] if quick else [claim],  # a CPU process's resident memory is no measure for tensors on a card
        tables=[Table(title="One job, K processes and one pack of K", columns=columns, rows=rows)],
        device=device,
    )


def adapters_an_hour(case: Case, one: Measured) -> float:
    """Adapters of :data:`STEPS_AN_ADAPTER` steps that all jobs together finish in an hour."""
    return one.images_per_s * 3600 / (STEPS_AN_ADAPTER * case.batch)


def _named(case: Case) -> str:
    return WAYS[case.way].format(case.jobs)


if __name__ == "__main__":
    main()
