"""Everything that a training needs of a machine, looked at before one begins."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig, TrackingConfig
from lora_foundry.config.version import told_version
from lora_foundry.doctor.devices import Questions
from lora_foundry.doctor.places import places_of, tight
from lora_foundry.doctor.report import Report, Store
from lora_foundry.launch.points.preflight import Asked, Looks, full_disk, unready
from lora_foundry.launch.points.writable import store_problems, sweep_dir_problems
from lora_foundry.tracking.addresses import shown, store_of
from lora_foundry.tracking.checking import unanswered


def examined(config: JobConfig, settings: Settings, root: Path, looks: Looks) -> Report:
    """What a training as ``config`` has it would meet here; nothing is made, and what hangs is not waited for.

    Args:
        config: Of the training.
        settings: Of its launcher.
        root: Where sweeps lie.
        looks: What other rooms know of a job before it trains.
    """
    questions = Questions()  # they think while the rest is looked at
    wrong = [*sweep_dir_problems(root), *store_problems(config.tracking), *full_disk(root, [config], looks)]
    for problems in unready({0: Asked(config=config)}, looks, Path.cwd()).values():
        wrong += problems
    store, remarks = _store(config.tracking)
    places = places_of(config, root)
    devices = questions.examined(config.trainer, settings.devices)
    return Report(
        works=not (devices.wrong or wrong),
        wrong=(*devices.wrong, *wrong),
        notes=(*devices.notes, *remarks, *tight(places)),
        program=told_version(),
        torch=devices.torch,
        driver=devices.driver,
        devices=devices.devices,
        trains_on=devices.trains_on,
        store=store,
        places=places,
    )


def _store(tracking: TrackingConfig) -> tuple[Store, list[str]]:
    """Where runs are recorded, and what is to be known of it: a training goes on without a server that is away."""
    installed = _version("mlflow")
    if not tracking.enabled:
        return Store(mlflow=installed, address=None, reached=None), []
    if store_problems(tracking):
        return Store(mlflow=installed, address=tracking.uri and shown(tracking.uri), reached=False), []
    address, _ = store_of(tracking)
    why = unanswered(address)
    remarks = [] if why is None else [f"{shown(address)}: {why}; a training goes on and is logged when it is back"]
    return Store(mlflow=installed, address=shown(address), reached=why is None), remarks


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
