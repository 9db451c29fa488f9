"""The environment of a worker: what is passed on, what is taken away and what is set, in this one place.

What the user set for the hardware or for libraries (``HF_*``, ``ONEDNN_*``, ``OMP_*``, proxies) is passed on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from lora_foundry.config.allowance import cores
from lora_foundry.config.paths import CHECKOUT, PACKAGE
from lora_foundry.config.surroundings import CUBLAS, CUBLAS_REPEATS, foreign, threads_asked
from lora_foundry.launch.machines.engine import Slot

# A shell's wishes for Python itself: errors out of libraries' warnings, an alphabet that names of files do not keep to,
# a prompt at the end.
_PYTHON = frozenset({"PYTHONWARNINGS", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONINSPECT", "PYTHONSTARTUP"})
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # torch takes the first, and MKL within it the second
# Blocks of any size come from the heap, which keeps what is freed. glibc's own choice maps blocks of 32 MiB and more
# anew at every call, and the kernel clears their pages each time. jemalloc and tcmalloc told to keep as much are as
# quick, as they come they are not (docs/decisions.md).
_TUNABLES = "GLIBC_TUNABLES"
_KEEP_PAGES = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {"mmap_max": 0, "trim_threshold": 8 * 2**30, "top_pad": 64 * 2**20}.items()
)


BY_BUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""Cards are counted as the driver and nvidia-smi count them."""


def worker_environment(slot: Slot, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a worker on ``slot`` is started with.

    Args:
        slot: Its device, which it sees alone, and its threads.
        given: The launcher's own environment.
    """
    made = {name: value for name, value in given.items() if name not in _PYTHON and not foreign(name)}
    made |= {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"} | own_code(given)
    return made | _device(slot, given) | _threads(slot, given) | (allocator(given) if slot.device == "cpu" else {})


def own_code(given: Mapping[str, str]) -> dict[str, str]:
    """What makes a process of ours run the launcher's own code: a tree's, whatever the environment has installed."""
    if CHECKOUT is None:
        return {}
    path = given.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *([path] if path else [])])}


def _device(slot: Slot, given: Mapping[str, str]) -> dict[str, str]:
    """Set before torch is loaded, or it sees every card; on the CPU, none. ROCm asks its own variable first.

    What lets cuBLAS repeat itself is always set: a worker takes packs of all kinds, and could not set it later.
    """
    kind, _, number = slot.device.partition(":")
    if kind != "cuda":
        return {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "-1"}  # HIP takes an empty one for none set
    word = slot.visible or number
    seen = {**BY_BUS, "CUDA_VISIBLE_DEVICES": word, "HIP_VISIBLE_DEVICES": word}
    return seen | {CUBLAS: given.get(CUBLAS, CUBLAS_REPEATS[0])}


def _threads(slot: Slot, given: Mapping[str, str]) -> dict[str, str]:
    """The slot's share of the threads, or what the user's own environment asks for where that is less."""
    share, made = slot.threads, {}
    for name in _THREADS:
        asked = threads_asked(given.get(name))
        if share is not None or name in given:  # what is no number of threads is all of them
            made[name] = str(min(share or cores(), asked or cores()))
    return made


def allocator(given: Mapping[str, str]) -> dict[str, str]:
    """Glibc's memory that is kept for the next step; a user's own choice stands."""
    chosen = _TUNABLES in given or any(name.startswith("MALLOC_") for name in given)
    return {} if chosen else {_TUNABLES: _KEEP_PAGES}
