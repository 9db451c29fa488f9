"""How long a prediction of memory takes, and what watching memory costs a step."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import PROJECT_ROOT
from bench.measure import Claim, Result, Table, arguments
from lora_foundry.config.compose import compose_job

TRACE_S, LOOK_UP_S, WATCH = 10.0, 0.1, 0.01
KINDS = {
    "SD 1.5, 512 px": ("model=sd15", "data.resolution=512"),
    "SD 1.5, 512 px, checkpointing": ("model=sd15", "data.resolution=512", "trainer.gradient_checkpointing=true"),
    "SDXL, 1024 px": ("model=sdxl", "data.resolution=1024"),
}


def trace_s(words: tuple[str, ...], cache: Path) -> float:
    """Seconds of a first prediction in this process, imports apart."""
    config = compose_job(f"data.cache_dir={cache}", *words)
    import_what_a_trace_imports(cache)
    from lora_foundry.memory.predict import curve_of

    start = time.perf_counter()
    curve_of(config)
    return time.perf_counter() - start


def import_what_a_trace_imports(cache: Path) -> None:
    """What is imported late is imported by a first trace: one of a base so small that the rest of it is nothing."""
    from lora_foundry.memory.predict import curve_of

    curve_of(compose_job(f"data.cache_dir={cache}", "model=tiny-sd", "data.resolution=64"))


def look_up_s(words: tuple[str, ...], cache: Path) -> float:
    """Seconds until a kept trace has answered, imports apart; torch is not among them."""
    config = compose_job(f"data.cache_dir={cache}", *words)
    from lora_foundry.memory.predict import curve_of

    start = time.perf_counter()
    curve_of(config)
    return time.perf_counter() - start


def apart(kind: str, words: tuple[str, ...], cache: Path) -> float:
    """The above in a process of its own."""
    command = [sys.executable, "-m", "bench.prediction", "--child", kind, str(cache), *words]
    return float(subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout)


def watch_ratio(blocks: int, steps: int) -> tuple[float, float]:
    """Milliseconds of a bare step of the pack, and the median share that watching memory adds."""
    from bench.toy import Shape, load_denoiser, pack_step  # the others need no torch here
    from lora_foundry.memory.watch import Watch

    step = pack_step(load_denoiser(), [Shape(batch=1)] * 4, "lora.target_modules=attention")

    def block() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - start) / steps

    block()
    ratios: list[float] = []
    bare: list[float] = []
    for number in range(blocks):
        seconds: dict[bool, float] = {}
        for watched in (number % 2 == 0, number % 2 == 1):  # each goes first as often as the other
            if watched:
                with Watch():
                    seconds[watched] = block()
            else:
                seconds[watched] = block()
        ratios.append(seconds[True] / seconds[False])
        bare.append(seconds[False])
    return statistics.median(bare) * 1e3, statistics.median(ratios) - 1


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--child", nargs="+", default=None, help="kind, cache and overrides: only time that")
    options = parser.parse_args()
    if options.child:
        kind, cache, *words = options.child
        print({"trace": trace_s, "look-up": look_up_s}[kind](tuple(words), Path(cache)))
        return
    rounds = options.rounds or (1 if options.quick else 5)
    kinds = dict(list(KINDS.items())[:1]) if options.quick else KINDS
    traced: dict[str, list[float]] = {name: [] for name in kinds}
    looked: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, words in kinds.items():
            with tempfile.TemporaryDirectory() as cache:
                traced[name].append(apart("trace", words, Path(cache)))
                looked[name].append(apart("look-up", words, Path(cache)))
    step_ms, watching = watch_ratio(*((4, 10) if options.quick else (16, 40)))
    rows = [
        [name, *(f"{value:.1f}" for value in (statistics.median(traced[name]), max(traced[name])))]
        + [f"{value * 1e3:.0f}" for value in (statistics.median(looked[name]), max(looked[name]))]
        for name in kinds
    ]
    first = next(iter(kinds))
    trace, look_up = statistics.median(traced[first]), max(max(seconds) for seconds in looked.values())
    Result(
        name="prediction",
        title="Predicting and watching memory",
        how=(
            f"Each prediction {rounds} times in a process of its own, imports apart: a first one with an empty cache, "
            "which traces two steps, and one of what is kept. Watching: blocks of steps of a pack of four on the "
            "embedded base, with and without the watch in turn; the median of the ratios pair by pair, of a step of "
            f"{step_ms:.0f} ms."
        ),
        quick=options.quick,
        claims=[
            Claim(
                what=f"tracing {first}",
                measured=f"{trace:.1f} s",
                limit=f"under {TRACE_S:g} s",
                holds=trace < TRACE_S,
            ),
            Claim(
                what="a kept prediction, the slowest",
                measured=f"{look_up:.3f} s",
                limit=f"within {LOOK_UP_S:g} s",
                holds=look_up <= LOOK_UP_S,
            ),
            Claim(
                what="watching memory",
                measured=f"{watching * 100:+.1f} % of step time",
                limit=f"under {WATCH * 100:g} %",
                holds=watching < WATCH,
            ),
        ],
        tables=[
            Table(
                title="Predictions",
                columns=["kind", "traced, s, median", "worst", "kept, ms, median", "worst"],
                rows=rows,
            )
        ],
    ).save()


if __name__ == "__main__":
    main()
