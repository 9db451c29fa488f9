"""Predicted memory against a GPU's own count, with reserve and context apart; without a GPU a small look on the CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from bench.measure import Claim, Result, Table, arguments
from bench.memory import MIB, Case, build, peak_by_profiler, shown, steps_of
from src.config.compose import compose_job
from src.config.schema import JobConfig
from src.memory.predict import curve_of

LIMIT = 0.10
FULL = [
    ("sd15", Case(base="sd15", resolution=512, precision="bf16-mixed", targets="attention")),
    ("sd15", Case(base="sd15", resolution=512, batch=2, precision="bf16-mixed", targets="attention")),
    ("sd15", Case(base="sd15", resolution=512, batch=4, precision="bf16-mixed")),
    ("sd15", Case(base="sd15", resolution=512, batch=4, precision="bf16-mixed", checkpointing=True)),
    ("sd15", Case(base="sd15", resolution=768, batch=2, precision="bf16-mixed", targets="attention")),
    ("sd15", Case(base="sd15", resolution=512, members=4, precision="bf16-mixed", targets="attention")),
    ("sd15", Case(base="sd15", resolution=512, batch=2, targets="attention")),
    ("sdxl", Case(base="sdxl", resolution=1024, precision="bf16-mixed", targets="attention")),
    ("sdxl", Case(base="sdxl", resolution=1024, precision="bf16-mixed", targets="attention", checkpointing=True)),
]
SMALL = [("tiny-sd", Case(base="tiny-sd", resolution=64, batch=2)), ("tiny-sd", Case(base="tiny-sd", resolution=64))]


def main() -> None:
    """Measure, print, save."""
    options = arguments(__doc__ or "").parse_args()
    gpu = torch.cuda.is_available()
    context = _context() if gpu else 0
    rows, errors = [], []
    with tempfile.TemporaryDirectory() as cache:
        for model, case in FULL if gpu and not options.quick else SMALL:
            config = compose_job(f"model={model}", *case.overrides(Path(cache)))
            predicted = curve_of(config).needs(case.members * case.batch, ["adamw"] * case.members).tensors
            allocated, reserved = _on_gpu(case, config) if gpu else (peak_by_profiler(case, config), 0)
            errors.append(predicted / allocated - 1)
            sizes = [f"{size / MIB:.0f}" for size in (predicted, allocated, reserved)]
            rows.append([*shown(case), *sizes, f"{errors[-1] * 100:+.1f} %"])
    device = torch.cuda.get_device_name() if gpu else "the CPU (no GPU at hand)"
    worst = max(errors, key=abs)
    Result(
        name="gpu_memory",
        title="Memory on a GPU",
        how=(
            f"Peak of two training steps on {device}: `torch.cuda.max_memory_allocated` against the prediction. The "
            f"CUDA context takes {context / MIB:.0f} MiB besides."
        ),
        quick=options.quick or not gpu,
        device=device,
        claims=[
            Claim(
                what="predicted against allocated, worst of the table",
                measured=f"{worst * 100:+.1f} %",
                limit=f"within {LIMIT * 100:g} %",
                holds=abs(worst) <= LIMIT,
            )
        ],
        tables=[
            Table(
                title="Predicted and allocated, MiB",
                columns=[
                    *("base", "pack", "rank", "px", "precision", "checkpointing", "targets"),
                    *("predicted", "allocated", "reserved", "off by"),
                ],
                rows=rows,
            )
        ],
    ).save()


def _context() -> int:
    """Bytes that the device lost to this process and not to its tensors."""
    torch.ones(64, 64, device="cuda").matmul(torch.ones(64, 64, device="cuda")).sum().item()
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def _on_gpu(case: Case, config: JobConfig) -> tuple[int, int]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    steps_of(*build(case, config, torch.device("cuda")), config, 2)
    return torch.cuda.max_memory_allocated() - before, torch.cuda.max_memory_reserved()


if __name__ == "__main__":
    main()
