"""What was found of a machine: frozen values, which a screen shows and ``--json`` writes."""

from __future__ import annotations

from dataclasses import dataclass

from lora_foundry.config.schema import Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Torch:
    """The torch that trains.

    Attributes:
        version: Such as ``2.13.0+cu130``; null where none is installed.
        built_for: ``CUDA 13.0``, ``ROCm 7.2`` or ``the CPU``.
        imported: Whether a process could import it and was told what it sees.
        problem: Why it sees no GPU, in its own words.
    """

    version: str | None
    built_for: str | None
    imported: bool
    problem: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """NVIDIA's driver, by its management library.

    Attributes:
        version: Its own; null where it does not tell.
        cuda: The newest CUDA that it runs.
        problem: Why nothing could be asked, in its words.
    """

    version: str | None
    cuda: str | None
    problem: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Something to train on.

    Attributes:
        name: ``CPU``, or ``GPU`` and its number, as nvidia-smi counts.
        uuid: What CUDA_VISIBLE_DEVICES can name it by; null for the CPU.
        about: The model, what is free of how much, and who has the rest.
        computes: Compute capability or architecture; null where there is none.
        free: Bytes; null where it is not told.
        total: Bytes; null where it is not told.
        precision: What ``trainer.precision=auto`` is on it.
        problem: Why nothing can be computed on it; null where something was, or nobody tried.
        tried: Whether torch computed something on it, or failed to.
    """

    name: str
    uuid: str | None = None
    about: str
    computes: str | None = None
    free: int | None
    total: int | None
    precision: Precision
    problem: str | None = None
    tried: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """Where runs are recorded.

    Attributes:
        mlflow: MLflow's version; null where none is installed.
        address: Of the store, without a password; null where nothing is recorded.
        reached: Whether it answered, or can be made; null where nobody asked.
    """

    mlflow: str | None
    address: str | None
    reached: bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A folder that is written to.

    Attributes:
        what: What lies there.
        folder: Absolute.
        free: Bytes of its disk; null where that is not told.
        size: Bytes that it holds; null where nobody counted.
        counted: Whether all of it was counted in the time that there was.
    """

    what: str
    folder: str
    free: int | None
    size: int | None = None
    counted: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was found.

    Attributes:
        works: Whether a training as asked would begin here.
        wrong: Why not, a line for each reason with what to do.
        notes: What else is worth knowing, a line each.
        program: This program's version.
        torch: What trains.
        driver: NVIDIA's.
        devices: The cards that there are, and the CPU.
        trains_on: Names of those that would be trained on.
        store: Where runs are recorded.
        places: Disks and caches.
    """

    works: bool
    wrong: tuple[str, ...]
    notes: tuple[str, ...]
    program: str
    torch: Torch
    driver: Driver
    devices: tuple[Device, ...]
    trains_on: tuple[str, ...]
    store: Store
    places: tuple[Place, ...]
