"""``python -m bench.faults.broken FAULT MODULE ...``: MODULE with a fault that no signal can cause from outside.

Stands in ``hydra.launcher.worker_command`` (MODULE is ``lora_foundry.worker``), or before ``src.train`` for its clock.
"""

from __future__ import annotations

import functools
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FELL_OVER = "the step fell over, as this test wants it"
_CLOCK_STEP_S = 0.7
_CLOCK_S = (0.0, 3 * 3600.0, -5 * 3600.0, 40 * 86400.0, -3600.0)  # what the clock is off by, step after step


def command(fault: str) -> str:
    """The launcher's option that makes every worker of the sweep a broken one."""
    return f"hydra.launcher.worker_command=[{sys.executable},-m,bench.faults.broken,{fault},lora_foundry.worker]"


def first_time(what: str) -> bool:
    """Whether ``what`` is asked for the first time in this sweep."""
    mark = Path(sys.argv[sys.argv.index("--sweep-dir") + 1]) / f"did-{what}"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def jump_clock() -> None:
    """The clock is set forward and back by hours again and again; monotonic time goes on."""
    real, begun = time.time, time.monotonic()

    def jumping() -> float:
        place = int((time.monotonic() - begun) / _CLOCK_STEP_S) % len(_CLOCK_S)
        return real() + _CLOCK_S[place]

    time.time = jumping


def break_cuda() -> None:
    """At its fifth step the first worker meets a CUDA error that sticks: every later step in this process fails too."""
    import torch

    from lora_foundry.training import pack_step

    attempt, steps = pack_step._attempt, iter(range(10_000))
    broken: list[bool] = []

    def failing(*args: Any) -> None:
        if broken or (next(steps) == 4 and first_time("cuda")):
            broken.append(True)
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        attempt(*args)

    pack_step._attempt = failing  # type: ignore[assignment]


def break_member() -> None:
    """A step that the job with the highest seed takes part in raises what nobody expects."""
    from lora_foundry.training import pack_step

    attempt = pack_step._attempt

    def failing(pack: Any, members: Any, result: Any) -> None:
        if any(member.config.seed >= 900 and member.count.step == 6 for member in members):
            raise RuntimeError(FELL_OVER)
        attempt(pack, members, result)

    pack_step._attempt = failing  # type: ignore[assignment]


def die_in_export(place: int) -> None:
    """The first worker kills itself inside its first final export.

    Args:
        place: 0 before anything is written, 1 with a file half written, 2 after the first file, 3 after the second,
            4 after all of them.
    """
    from lora_foundry.tasks.denoising import files

    def die() -> None:
        if first_time("export"):
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(real: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            if before:
                die()
            answer = real(*args, **kwargs)
            die()
            return answer

        return call

    if place == 1:
        sync = os.fsync

        def synced(descriptor: int) -> None:
            target = Path(f"/proc/self/fd/{descriptor}").readlink()
            if "/adapter/." in str(target) and first_time("export"):
                os.ftruncate(descriptor, 100)
                os.kill(os.getpid(), signal.SIGKILL)
            sync(descriptor)

        os.fsync = synced  # type: ignore[assignment]
        return
    name = ("write_kohya", "", "write_kohya", "write_diffusers", "write_sidecar")[place]
    setattr(files, name, dying(getattr(files, name), before=place == 0))


FAULTS: dict[str, Callable[[], None]] = {
    "clock": jump_clock,
    "cuda": break_cuda,
    "member": break_member,
    **{f"export-{place}": functools.partial(die_in_export, place) for place in range(5)},
}


def main() -> None:
    """Break, then run."""
    fault, module, *words = sys.argv[1:]
    sys.argv = [module, *words]
    FAULTS[fault]()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
