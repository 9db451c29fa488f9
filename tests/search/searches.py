"""Whole searches without processes: Hydra composes, Optuna suggests, workers are in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from lora_foundry.config.launcher import Settings
from lora_foundry.config.search import PBT
from lora_foundry.launch.farm.launching import Launching
from lora_foundry.launch.farm.outcome import OK, OUTCOME
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.launch.records.reading import read_results
from lora_foundry.search.evolving import evolve
from lora_foundry.search.sweeping import search
from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wiring.pruning import pruning
from tests.launch.memory_engine import Clock, MemoryEngine
from tests.root import PROJECT_ROOT


class _Launcher:
    """As the sweeper gets it from Hydra."""

    def __init__(self, launching: Launching) -> None:
        self.launching = launching


class Searches:
    """``run(["lora.rank=2,4,8"], n_trials=3)`` searches in :attr:`folder`; again, it goes on there.

    Args:
        folder: The sweep's; not there yet.
        clock: Of the farm.
        engine: Of its workers.
    """

    def __init__(self, folder: Path, clock: Clock, engine: MemoryEngine) -> None:
        self.folder = folder
        self.clock = clock
        self.engine = engine
        self.watching: Callable[[Launching], None] = lambda _: None

    def run(self, words: list[str], **options: Any) -> int:
        """The exit code; words that begin with ``hydra.launcher.`` are the launcher's."""
        OUTCOME.exit_code = OK
        own = dict(word.removeprefix("hydra.launcher.").split("=") for word in words if word.startswith("hydra."))
        rest = [word for word in words if not word.startswith("hydra.")]
        settings = Settings(share=True, **{key: _plain(value) for key, value in own.items()})
        with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
            master = compose(
                "train",
                overrides=[f"hydra.sweep.dir={self.folder}", "hydra.job.name=train"],
                return_hydra_config=True,
            )
            loader = GlobalHydra.instance().config_loader()
            outside = Outside(finish=lambda *_: None, watch=pruning)
            launching = Launching(loader, master, settings, outside)
            self.watching(launching)
            given = {"sampler": "tpe", "n_trials": 6, **options}
            begin = evolve if given["sampler"] == PBT else search
            begin(loader, master, _Launcher(launching), given, ["tracking=none", *rest])  # type: ignore[arg-type]
            launching.end()
        return OUTCOME.exit_code

    def trials(self, address: str | None = None, name: str | None = None) -> list[FrozenTrial]:
        """Of the one study, or the one of that name."""
        journal = str(self.folder / "study.journal")
        kept = RDBStorage(address) if address else JournalStorage(JournalFileBackend(journal))
        names = [one.study_name for one in optuna.get_all_study_summaries(kept)] if name is None else [name]
        (only,) = names
        found = optuna.load_study(study_name=only, storage=kept).trials
        if isinstance(kept, RDBStorage):
            kept.remove_session()
            kept.engine.dispose()
        return found

    def outcomes(self) -> list[JobOutcome]:
        return read_results(self.folder)


def _plain(value: str) -> object:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value == "true" if value in ("true", "false") else value
