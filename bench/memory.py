"""Predicted memory against what steps really take: tensor bytes, and the process's peak."""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import PROJECT_ROOT
from bench.measure import Claim, Result, Table, arguments
from lora_foundry.config.compose import compose_job
from lora_foundry.config.files import write_json
from lora_foundry.launch.machines.environment import allocator
from lora_foundry.memory.predict import curve_of

if TYPE_CHECKING:
    import torch

    from lora_foundry.config import JobConfig
    from lora_foundry.training.pack import Pack

LIMIT_TENSORS, LIMIT_PROCESS = 0.02, 0.15
HEAP_STEP = 64 * 2**20  # bytes by which a worker's heap grows at a time (glibc.malloc.top_pad)
MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One configuration of the table.

    Attributes:
        base: ``tiny-sd`` or ``medium``.
        members: Adapters in the pack.
        batch: Rows of each.
        rank: Of each.
        resolution: Pixels.
        precision: Lightning's name.
        checkpointing: Whether activations are computed again.
        targets: A preset.
    """

    base: str
    members: int = 1
    batch: int = 1
    rank: int = 8
    resolution: int
    precision: str = "32-true"
    checkpointing: bool = False
    targets: str = "all"

    def config(self, medium: Path, cache: Path) -> JobConfig:
        """The composed job of one member."""
        model = ["model=sd15", f"model.config={medium}"] if self.base == "medium" else ["model=tiny-sd"]
        return compose_job(*model, *self.overrides(cache))

    def overrides(self, cache: Path) -> tuple[str, ...]:
        """What is set besides the base."""
        return (
            f"data.cache_dir={cache}",
            f"data.batch_size={self.batch}",
            f"data.resolution={self.resolution}",
            f"lora.rank={self.rank}",
            f"lora.target_modules={self.targets}",
            f"trainer.precision={self.precision}",
            f"trainer.gradient_checkpointing={str(self.checkpointing).lower()}",
        )


def cases(*, quick: bool) -> list[Case]:
    """The table: the embedded base, and a UNet of 215 M parameters without training."""
    tiny = [
        Case(base="tiny-sd", resolution=64),
        Case(base="tiny-sd", resolution=64, batch=2),
        Case(base="tiny-sd", resolution=64, batch=4),
        Case(base="tiny-sd", resolution=64, batch=8),
        Case(base="tiny-sd", resolution=64, batch=16),
        Case(base="tiny-sd", resolution=64, batch=4, rank=4),
        Case(base="tiny-sd", resolution=64, batch=4, rank=32),
        Case(base="tiny-sd", resolution=64, batch=4, checkpointing=True),
        Case(base="tiny-sd", resolution=64, batch=16, checkpointing=True),
        Case(base="tiny-sd", resolution=64, batch=4, precision="bf16-mixed"),
        Case(base="tiny-sd", resolution=64, batch=8, precision="bf16-mixed", checkpointing=True),
        Case(base="tiny-sd", resolution=64, members=4),
        Case(base="tiny-sd", resolution=64, members=8, rank=16),
        Case(base="tiny-sd", resolution=64, members=4, batch=4),
        Case(base="tiny-sd", resolution=128),
        Case(base="tiny-sd", resolution=128, batch=4),
        Case(base="tiny-sd", resolution=128, batch=4, targets="attention"),
        Case(base="tiny-sd", resolution=128, members=4, batch=2, precision="bf16-mixed"),
    ]
    medium = [
        Case(base="medium", resolution=128, targets="attention"),
        Case(base="medium", resolution=128, batch=2, targets="attention"),
        Case(base="medium", resolution=128, batch=4),
        Case(base="medium", resolution=256, targets="attention"),
        Case(base="medium", resolution=256, batch=2, checkpointing=True),
        Case(base="medium", resolution=256, precision="bf16-mixed"),
        Case(base="medium", resolution=256, members=4, targets="attention"),
        Case(base="medium", resolution=256, members=2, rank=32, checkpointing=True),
    ]
    return [tiny[2], tiny[7], tiny[11]] if quick else [*tiny, *medium]


def write_medium(folder: Path) -> Path:
    """Configs of a UNet like Stable Diffusion 1.5's with half the channels."""
    source = PROJECT_ROOT / "assets" / "sd15-config"
    for part in ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"):
        config = json.loads((source / part).read_text())
        if part.startswith("unet"):
            config["block_out_channels"] = [160, 320, 640, 640]
        write_json(folder / part, config)
    return folder


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(json.loads(options.child.read_text()))
        return
    rounds = options.rounds or (2 if options.quick else 5)
    table = cases(quick=options.quick)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        medium = write_medium(folder / "medium")
        started = time.perf_counter()
        predicted = [_predict(case.config(medium, folder / "cache"), case) for case in table]
        tracing = time.perf_counter() - started
        measured = _apart(folder, {"cases": [asdict(case) for case in table], "medium": str(medium), "rounds": rounds})
    judge(table, predicted, measured, rounds=rounds, tracing=tracing, quick=options.quick).save()


def judge(  # what a result is made of
    table: Sequence[Case],
    predicted: Sequence[float],
    measured: Sequence[Mapping[str, float]],
    *,
    rounds: int,
    tracing: float,
    quick: bool,
) -> Result:
    """Hold predictions against measurements, all in bytes."""
    tensors = [guess / real["tensors"] - 1 for guess, real in zip(predicted, measured, strict=True)]
    wide = [n for n, case in enumerate(table) if not case.precision.startswith("bf16")]
    narrow = [n for n in range(len(table)) if n not in wide]
    factor, fixed = calibrated([predicted[n] for n in wide], [measured[n]["process"] for n in wide])
    scratch = statistics.median([measured[n]["process"] - factor * predicted[n] - fixed for n in narrow] or [0.0])
    guesses = [factor * guess + fixed + (scratch if n in narrow else 0.0) for n, guess in enumerate(predicted)]
    processes = [guess / real["process"] - 1 for guess, real in zip(guesses, measured, strict=True)]
    beyond = [
        error if abs(guess - real["process"]) > HEAP_STEP else 0.0
        for guess, real, error in zip(guesses, measured, processes, strict=True)
    ]
    rows = [
        [
            *shown(case),
            *(_mib(predicted[n]), _mib(measured[n]["tensors"]), _percent(tensors[n])),
            *(_mib(guesses[n]), _mib(measured[n]["process"]), _percent(processes[n])),
        ]
        for n, case in enumerate(table)
    ]
    columns = ["base", "pack", "rank", "px", "precision", "checkpointing", "targets"]
    columns += ["tensors predicted", "measured, MiB", "off by", "process predicted", "measured, MiB", "off by"]
    return Result(
        name="memory",
        title="Memory",
        how=(
            "Peak of one training step. Tensors: what stays, and every allocation of a step that torch's profiler saw. "
            "Process: peak resident memory less what the imports had taken, median of "
            f"{rounds} rounds with a worker's own allocator settings, from a trimmed heap. "
            "The prediction for the process is calibrated once for this "
            f"machine: the tensors' times {factor:.3f}, {fixed / MIB:.0f} MiB of the process's own, "
            f"and {scratch / MIB:.0f} more in bf16, which is what the "
            "CPU's bf16 kernels keep for themselves and no tensor shows. What convolutions allocate inside themselves "
            f"is predicted by oneDNN's own formula (src/lora_foundry/memory/scratch.py), for the {_threads()} "
            f"that torch had. Tracing all {len(table)} kinds took {tracing:.0f} s."
        ),
        quick=quick,
        claims=[
            _claim("predicted tensor bytes, worst of the table", tensors, LIMIT_TENSORS),
            _claim("predicted peak of the process, worst of what is off by more than 64 MiB", beyond, LIMIT_PROCESS),
        ],
        tables=[Table(title="Predicted and measured", columns=columns, rows=rows)],
    )


def calibrated(predicted: Sequence[float], measured: Sequence[float]) -> tuple[float, float]:
    """The line ``factor * predicted + fixed`` with the least squares of its relative errors: one for a machine.

    From fewer than three kinds no more than a factor can be had.
    """
    if len(predicted) < 3:  # a line through two points fits whatever they are
        return statistics.median(real / guess for guess, real in zip(predicted, measured, strict=True)), 0.0
    weights = [1.0 / real**2 for real in measured]
    x, y = (sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights) for values in (predicted, measured))
    spread = sum(w * (guess - x) ** 2 for w, guess in zip(weights, predicted, strict=True))
    slope = sum(w * (guess - x) * (real - y) for w, guess, real in zip(weights, predicted, measured, strict=True))
    factor = slope / spread
    return factor, y - factor * x


def measure(task: dict[str, object]) -> None:
    """In a process of its own: print what each case takes, a JSON line each."""
    import torch

    from lora_foundry.training.fit import train_pack  # noqa: F401  # so that its imports are not counted

    medium, rounds = Path(str(task["medium"])), int(str(task["rounds"]))
    listed = [Case(**case) for case in task["cases"]]  # type: ignore[attr-defined]
    torch.ones(64, 64, requires_grad=True).matmul(torch.ones(64, 64)).sum().backward()  # threads and workspaces
    with tempfile.TemporaryDirectory() as cache:
        configs = [case.config(medium, Path(cache)) for case in listed]
        processes: list[list[int]] = [[] for _ in listed]
        for _ in range(rounds):
            for seen, case, config in zip(processes, listed, configs, strict=True):
                seen.append(_process_peak(case, config))
        for seen, case, config in zip(processes, listed, configs, strict=True):
            found = {"tensors": peak_by_profiler(case, config), "process": statistics.median(seen)}
            print(json.dumps(found), flush=True)


def build(case: Case, config: JobConfig, device: torch.device | None = None) -> tuple[Pack, list[int]]:
    """A pack of ``case`` on random weights, and the rows of each member."""
    import torch

    from lora_foundry.lora.inject import inject
    from lora_foundry.memory.trace import placeholder
    from lora_foundry.models.opening import open_sizes
    from lora_foundry.tasks.denoising import Denoising
    from lora_foundry.training.pack import Pack, adapter_spec
    from lora_foundry.training.precision import DTYPES

    denoiser = open_sizes(config.model).build(DTYPES[config.trainer.precision].base)
    for tensor in (*denoiser.module.parameters(), *denoiser.module.buffers()):
        torch.nn.init.normal_(tensor, std=0.02)  # pages that were never written take no memory
    denoiser.module.to(device or torch.device("cpu"))
    denoiser.set_gradient_checkpointing(enabled=case.checkpointing)
    members = [placeholder(config, number) for number in range(case.members)]
    for member in members:
        inject(denoiser.module, member.name, adapter_spec(member, denoiser))
    return Pack(Denoising(denoiser), members, injected=True), [case.batch] * case.members


def steps_of(pack: Pack, rows: Sequence[int], config: JobConfig, count: int) -> None:
    """Whole training steps; the pack is closed afterwards."""
    from lora_foundry.memory.trace import run_once, zeros
    from lora_foundry.models.opening import open_sizes

    sizes = open_sizes(config.model)
    for _ in range(count):
        run_once(pack, zeros(pack, sizes, rows))
        pack.optimizer.step({member.name: 1e-4 for member in pack.members})
    pack.close()


def _process_peak(case: Case, config: JobConfig) -> int:
    """Bytes of resident memory at the peak, beyond those before."""
    import torch

    from lora_foundry.training.shortage import let_go

    let_go(torch.device("cpu"))
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begins a new VmHWM
    steps_of(*build(case, config), config, 2)
    return _status("VmHWM") - before


def peak_by_profiler(case: Case, config: JobConfig) -> int:
    """Bytes of tensors at a step's peak: those that stay, and what the allocator itself reports to the profiler."""
    from torch.profiler import ProfilerActivity, profile

    pack, rows = build(case, config)
    module = pack.base.components["unet"]
    named = [*module.named_parameters(), *module.named_buffers()]
    base = sum(tensor.nbytes for name, tensor in named if ".lora_" not in name)
    adapters = pack.bank.weights.nbytes + pack.bank.gradients.nbytes + 2 * pack.bank.weights.nbytes  # AdamW's moments
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        steps_of(pack, rows, config, 1)
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    live = peak = 0
    for _, size in changes:
        live += size
        peak = max(peak, live)
    return base + adapters + peak


def _predict(config: JobConfig, case: Case) -> int:
    import torch

    curve, rows = curve_of(config), case.members * case.batch
    return curve.needs(rows, [config.optimizer] * case.members, cpu_threads=torch.get_num_threads()).tensors


def _threads() -> str:
    import torch

    threads = torch.get_num_threads()
    return f"{threads} threads" if threads > 1 else "one thread"


def _apart(folder: Path, task: dict[str, object]) -> list[dict[str, float]]:
    path = folder / "task.json"
    write_json(path, task)
    command = [sys.executable, "-m", "bench.memory", "--child", str(path)]
    told = subprocess.run(
        command, cwd=PROJECT_ROOT, env={**os.environ, **allocator({})}, stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line) for line in told.stdout.splitlines()]


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def shown(case: Case) -> list[str]:
    """Cells that say what a case is."""
    checkpointing = "yes" if case.checkpointing else "no"
    pack = f"{case.members} x {case.batch}"
    return [case.base, pack, str(case.rank), str(case.resolution), case.precision, checkpointing, case.targets]


def _claim(what: str, errors: Sequence[float], limit: float) -> Claim:
    worst = max(errors, key=abs)
    holds = abs(worst) <= limit
    return Claim(what=what, measured=_percent(worst), limit=f"within {limit * 100:g} %", holds=holds)


def _mib(size: float) -> str:
    return f"{size / MIB:.0f}"


def _percent(share: float) -> str:
    return f"{share * 100:+.1f} %"


if __name__ == "__main__":
    main()
