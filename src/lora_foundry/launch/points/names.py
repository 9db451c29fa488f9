"""Adapter names: unique in a sweep, and telling what the adapter is (``flat-rank8-lr0.002``)."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lora_foundry.config.schema import JobConfig
from lora_foundry.config.swept import swept_keys

_LONGEST = 80  # file systems allow 255 bytes; endings such as -step000100.safetensors come on top
LONGEST_NAME = _LONGEST + len("-9999")
"""Letters of the longest name, with the number that keeps equal ones apart."""
_SHORT = {
    "data.batch_size": "batch",
    "data.resolution": "px",
    "data.without": "without-",
    "lora.init_from": "from",
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
_PATHS = ("lora.init_from", "model.config", "export.copy_to")
_ENDING = re.compile(r"\.(?:safetensors|ckpt|pt|pth)$")
_POWER = re.compile(r"(?<=\d)e\+0*(?=\d)")  # a dash would make 1e-09 of 1e+09
_IN_THE_NAME_ALREADY = ("data", "data.name", "lora.rank", "name", "sweep")


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """Names of the jobs in their order, and what the user should know about them."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


class Names:
    """Names the jobs of one sweep, as they come; no name depends on a job that comes later.

    Args:
        keys: What the sweep declares to vary, in order: told in the names. Null for what differs among jobs that come
            together.
        taken: Names that jobs of the sweep have already.
    """

    def __init__(self, keys: Sequence[str] | None = None, taken: Iterable[str] = ()) -> None:
        self._keys = keys
        self._used = {name.lower() for name in taken}  # adapters are often copied to file systems without case
        self._told: dict[str, dict[str, str]] = {}

    def name(self, jobs: Sequence[JobConfig], overrides: Sequence[Mapping[str, str]]) -> Named:
        """Name jobs that come together.

        Args:
            jobs: Configurations in the sweep's order; a ``name`` given there is kept, lengthened where several have it.
            overrides: What was set for each job, key to value.
        """
        keys = swept_keys(overrides) if self._keys is None else self._keys
        parts_of = self._parts(keys, jobs, overrides)
        wanted = [job.name or f"{job.data.name}-rank{job.lora.rank}" for job in jobs]
        several = any(key != "name" for key in self._keys or ())  # whatever is given is every job's, or will be
        crowded = {name for name in wanted if several or wanted.count(name) > 1}
        names: list[str] = []
        notes: list[str] = []
        for job, own_parts, wish in zip(jobs, parts_of, wanted, strict=True):
            parts = [] if job.name and wish not in crowded else own_parts
            if job.name and wish in crowded and "lora.rank" in keys:
                parts = [f"rank{job.lora.rank}", *parts]
            name = _unique(_cut("-".join([wish, *parts])), self._used)
            self._used.add(name.lower())
            names.append(name)
            if job.name and name != job.name:
                notes.append(f"name={job.name} {_why(job.name, shared=wish in crowded)}; this one is called {name}")
        return Named(names=tuple(names), notes=tuple(notes))

    def _parts(
        self, keys: Sequence[str], jobs: Sequence[JobConfig], overrides: Sequence[Mapping[str, str]]
    ) -> list[list[str]]:
        """For each job what tells it from the others, a part a swept key; equal values alone give equal parts."""
        columns = []
        for key in keys:
            if key in _IN_THE_NAME_ALREADY:
                continue
            shown = [show_value(job, key, given.get(key)) for job, given in zip(jobs, overrides, strict=True)]
            known = self._told.setdefault(key, {})
            known |= _told_apart(key, [value for value in dict.fromkeys(shown) if value not in known], known.values())
            columns.append([known[value] for value in shown])
        return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in jobs]


def show_value(job: JobConfig, key: str, given: str | None) -> str:
    """The value that ``key`` has in ``job``, as a person writes it; ``given`` for group choices."""
    value: object = job
    for part in key.split("."):
        value = getattr(value, part, None)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if value is None or not isinstance(value, (str, int)):
        return given if given is not None else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _why(name: str, *, shared: bool) -> str:
    """What keeps a job from the name that it was given."""
    if shared:
        return "is shared by several jobs"
    if len(name) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    return "is another job's already, small and capital letters aside"


def _told_apart(key: str, values: Sequence[str], taken: Iterable[str]) -> dict[str, str]:
    """Each value of ``key`` to its part: of a path as few folders as will do; a digest where letters do not.

    Args:
        key: What has the values.
        values: Different ones.
        taken: Parts that earlier values have.
    """
    there = {part.lower() for part in taken}
    for folders in range(1, _most_folders(key, values) + 1):
        told = {value: _part(key, _tail(key, value, folders)) for value in values}
        lowered = {part.lower() for part in told.values()}
        if len(lowered) == len(told) and not lowered & there:
            return told
    parts = [part.lower() for part in told.values()]
    return {
        value: part
        if parts.count(part.lower()) == 1 and part.lower() not in there
        else f"{part}-{hashlib.sha256(value.encode()).hexdigest()[:6]}"
        for value, part in told.items()
    }


def told_shortly(key: str, values: Iterable[str]) -> dict[str, str]:
    """Each value of ``key`` as a column has room for it: of paths as few folders as tell them apart."""
    shown = list(dict.fromkeys(values))
    for folders in range(1, _most_folders(key, shown) + 1):
        told = {value: _tail(key, value, folders) for value in shown}
        if len(set(told.values())) == len(told):
            return told
    return {value: value for value in shown}


def _is_path(key: str) -> bool:
    return key.endswith("path") or key in _PATHS


def _most_folders(key: str, values: Sequence[str]) -> int:
    return max((value.count("/") for value in values), default=0) + 1 if _is_path(key) else 1


def _tail(key: str, value: str, folders: int) -> str:
    """The end of a path, without what only says what kind of file it is; any other value as it is."""
    if not _is_path(key):
        return value
    return "/".join(_ENDING.sub("", value.rstrip("/")).split("/")[-folders:])


def _part(key: str, shown: str) -> str:
    leaf = key.rsplit(".", 1)[-1]
    word = _SHORT.get(key, "" if "." not in key and key != "seed" else leaf.replace("_", ""))
    if shown in ("true", "false"):
        return _slug(word if shown == "true" else f"no-{word}")
    return _slug(f"{word}{_POWER.sub('e', shown) or 'none'}")


def _slug(text: str) -> str:
    """Letters that every file system and web UI takes: accents go, and what has no such letter is a dash."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() if not text.isascii() else text
    return re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-._") or "x"


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
