"""What a process finds around it and must not obey: words that a cluster, another launcher or a shell left there.

Libraries read such words by themselves. Lightning takes ranks and requeues from SLURM's and arguments of its trainer
from ``PL_TRAINER_*``, Python makes errors of libraries' warnings. A training is decided by its configuration alone.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterable, MutableMapping

_RANKS = frozenset(
    {
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "GROUP_WORLD_SIZE"),
        *("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "STANDALONE_PORT"),
    }
)
_FAMILIES = (
    *("SLURM_", "SLURMD_", "SRUN_", "OMPI_", "PMI_", "PMIX_", "MPI_", "MV2_", "I_MPI_", "LSB_", "LSF_", "JSM_", "PBS_"),
    *("KUBERNETES_", "XLA_", "TPU_"),
    *("PL_", "TORCHELASTIC_", "TORCHRUN_", "ACCELERATE_", "FSDP_", "DEEPSPEED_"),
    *("MLFLOW_", "WANDB_", "COMET_", "NEPTUNE_", "CLEARML_"),  # a worker tells its launcher, and no tracker
)
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""What cuBLAS reads when it starts, and with it whether its products are the same in every repeat."""
CUBLAS_REPEATS = (":4096:8", ":16:8")
"""With these they are (cuBLAS's manual, "Results reproducibility"): 32 MiB, as a Hopper has anyway, and 128 KiB."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def foreign(name: str) -> bool:
    """Whether the environment's variable ``name`` speaks to another launcher, cluster or tracker than ours."""
    return name in _RANKS or name.startswith(_FAMILIES)


def forget_foreign(environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Remove every foreign variable from ``environment``; their names, sorted."""
    names = sorted(filter(foreign, environment))
    for name in names:
        del environment[name]
    return names


def settle() -> None:
    """What every command does first: have all three standard streams, for any letter; treat no warning as an error."""
    _open_streams()
    _take_any_letter()
    if any(option.partition(":")[0] and "error".startswith(option.partition(":")[0]) for option in sys.warnoptions):
        warnings.resetwarnings()  # then what Python sets where nobody asks for anything
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)


def past_proxies(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let connections to this machine itself pass a proxy by: it would look for them on its own."""
    for name in ("no_proxy", "NO_PROXY"):
        listed = [word.strip() for word in environment.get(name, "").split(",") if word.strip()]
        environment[name] = ",".join([*listed, *(host for host in _LOOPBACK if host not in listed)])


def threads_asked(text: str | None) -> int | None:
    """Threads that ``OMP_NUM_THREADS`` and its like ask for, or null where that says nothing.

    OpenMP allows a list, a number for each level of nesting; the first counts here.
    """
    first = (text or "").partition(",")[0].strip()
    return int(first) if first.isascii() and first.isdigit() and int(first) else None


def _open_streams() -> None:
    """Give a process that was started without a standard stream an empty one.

    Else the next file that it opens is its standard input, and a child's pipe takes the place of a lock.
    """
    for number in _closed((0, 1, 2)):
        descriptor = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.set_inheritable(number, True)  # noqa: FBT003
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _take_any_letter() -> None:
    """Write what the terminal's alphabet lacks by its number; without this a path beyond ASCII ends the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _closed(numbers: Iterable[int]) -> list[int]:
    closed = []
    for number in numbers:
        try:
            os.fstat(number)
        except OSError:
            closed.append(number)
    return closed
