"""Adapter names: unique in a sweep, and telling what the adapter is (``flat-rank8-lr0.002``)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.config.schema import JobConfig

_LONGEST = 80  # file systems allow 255 bytes; endings such as -step000100.diffusers.safetensors come on top
_SHORT = {
    "data.batch_size": "batch",
    "data.resolution": "px",
    "lora.rank": "rank",
    "lora.target_modules": "",
    "lora.use_rslora": "rslora",
    "model.path": "base",
    "objective.snr_gamma": "snr",
    "objective.noise_offset": "offset",
    "optimizer.lr": "lr",
    "optimizer.name": "",
    "optimizer.weight_decay": "decay",
    "scheduler.name": "",
    "scheduler.warmup_steps": "warmup",
    "scheduler.min_lr_ratio": "minlr",
    "trainer.gradient_checkpointing": "ckpt",
    "trainer.max_grad_norm": "clip",
    "trainer.max_steps": "steps",
    "trainer.precision": "",
}
_IN_THE_NAME_ALREADY = ("data", "data.name", "lora.rank", "name", "sweep")


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """Names of the jobs in their order, and what the user should know about them."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def name_jobs(jobs: Sequence[JobConfig], overrides: Sequence[Mapping[str, str]], taken: Sequence[str] = ()) -> Named:
    """Name each job.

    Args:
        jobs: Configurations in the sweep's order; a ``name`` given there is kept, lengthened where several share it.
        overrides: What was set for each job, key to value; what differs among them is told in the names.
        taken: Names that earlier jobs of the sweep have.
    """
    swept = swept_keys(overrides)
    wanted = [job.name or f"{job.data.name}-rank{job.lora.rank}" for job in jobs]
    crowded = {name for name in wanted if wanted.count(name) > 1}
    names: list[str] = []
    notes: list[str] = []
    used = {name.lower() for name in taken}  # adapters are often copied to file systems without case
    for job, given, wish in zip(jobs, overrides, wanted, strict=True):
        parts = [] if job.name and wish not in crowded else _parts(job, given, swept)
        if job.name and wish in crowded and "lora.rank" in swept:
            parts.insert(0, f"rank{job.lora.rank}")
        name = _unique(_cut("-".join([wish, *parts])), used)
        used.add(name.lower())
        names.append(name)
        if job.name and name != job.name:
            notes.append(f"name={job.name} is shared by several jobs; this one is called {name}")
    return Named(names=tuple(names), notes=tuple(notes))


def swept_keys(overrides: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys whose value differs among the jobs, in the order they were given."""
    keys = list(dict.fromkeys(key for given in overrides for key in given))
    return [key for key in keys if len({given.get(key) for given in overrides}) > 1]


def show_value(job: JobConfig, key: str, given: str | None) -> str:
    """The value that ``key`` has in ``job``, as a person writes it; ``given`` for group choices."""
    value: object = job
    for part in key.split("."):
        value = getattr(value, part, None)
    if key == "lora.alpha" or isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if value is None or not isinstance(value, (str, int)):
        return given if given is not None else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parts(job: JobConfig, given: Mapping[str, str], swept: Sequence[str]) -> list[str]:
    return [_part(job, key, given.get(key)) for key in swept if key not in _IN_THE_NAME_ALREADY]


def _part(job: JobConfig, key: str, given: str | None) -> str:
    shown = show_value(job, key, given)
    leaf = key.rsplit(".", 1)[-1]
    word = _SHORT.get(key, "" if "." not in key and key != "seed" else leaf.replace("_", ""))
    if shown in ("true", "false"):
        return _slug(word if shown == "true" else f"no-{word}")
    if key.endswith("path"):
        shown = shown.rstrip("/").rsplit("/", 1)[-1]
    return _slug(f"{word}{shown or 'none'}")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._") or "x"


def _cut(name: str) -> str:
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 7]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _unique(name: str, used: set[str]) -> str:
    if name.lower() not in used:
        return name
    number = 2
    while f"{name}-{number}".lower() in used:
        number += 1
    return f"{name}-{number}"
