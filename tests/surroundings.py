"""The worst surroundings that a training was seen in, all at once: a login node, an allocation, a shell with habits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

READ_ONLY = "/proc"  # a working folder that even root cannot write to
RANKS = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "NODE_RANK": "1",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "10.1.2.3",
    "MASTER_PORT": "none",
    "TORCHELASTIC_RUN_ID": "run",
}
CLUSTERS = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NODELIST": "n[1-2]",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "PMI_RANK": "2",
    "LSB_JOBID": "9",
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "KUBERNETES_PORT": "tcp://10.0.0.1:443",
}
TRAINERS = {"PL_TRAINER_FAST_DEV_RUN": "1", "PL_GLOBAL_SEED": "x", "ACCELERATE_USE_FSDP": "true"}
TRACKERS = {"MLFLOW_RUN_ID": "abc", "MLFLOW_EXPERIMENT_ID": "9", "WANDB_API_KEY": "x", "WANDB_MODE": "online"}
PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"), "http://127.0.0.1:9")
PYTHON = {"PYTHONWARNINGS": "error", "PYTHONHASHSEED": "3", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "ascii"}
SHELL = {"LANG": "C", "LC_ALL": "C", "TMPDIR": "/proc/nowhere", "CUDA_VISIBLE_DEVICES": "no card", "TERM": "dumb"}


def with_srun(folder: Path) -> str:
    """A PATH on which a cluster's client is; whatever calls it fails."""
    client = folder / "bin" / "srun"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\nexit 1\n")
    client.chmod(0o755)
    return os.pathsep.join([str(client.parent), os.environ["PATH"]])


def with_src(folder: Path, *, package: bool) -> Path:
    """A folder in which somebody keeps a ``src`` of their own, as a package or without ``__init__.py``."""
    own = folder / "site" / "src"
    own.mkdir(parents=True)
    (own / "train.py").write_text("raise SystemExit('not ours')\n")
    if package:
        (own / "__init__.py").write_text("raise SystemExit('not ours')\n")
    return own.parent


def hostile(folder: Path, clean: Mapping[str, str]) -> dict[str, str]:
    """``clean`` with all of it; two variables are gone, one asks for one thread in OpenMP's own words."""
    left = {name: value for name, value in clean.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    return {
        **{**left, **RANKS, **CLUSTERS, **TRAINERS, **TRACKERS, **PROXIES, **PYTHON, **SHELL},
        "OMP_NUM_THREADS": "1,4",
        "PYTHONPATH": str(with_src(folder, package=False)),
        "PATH": with_srun(folder),
    }
