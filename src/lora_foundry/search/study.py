"""The study: where trials are kept, and what must not be mixed in it.

Every trial has the number of its job, so that a search which was ended goes on with what became of its jobs.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import distribution_to_json
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from lora_foundry.config.errors import SweepError
from lora_foundry.config.search import SearchOptions
from lora_foundry.search.space import Space

FILE = "study.journal"
JOB, SWEEP = "job", "sweep"
"""Attributes of a trial: which job it is, and of which sweep."""
_SPACE = "space"

optuna.logging.set_verbosity(logging.WARNING)  # its lines for each trial would tear the table


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """A study's place.

    Attributes:
        storage: As Optuna writes it; null is a journal in ``folder``.
        folder: The sweep's.
        name: The study's.
    """

    storage: str | None
    folder: Path
    name: str

    def open(self) -> BaseStorage:
        """The storage; that of an address is looked at by it.

        Raises:
            SweepError: When it cannot be reached.
        """
        if self.storage is None:
            return JournalStorage(JournalFileBackend(str(self.folder / FILE)))
        try:
            return RDBStorage(self.storage)
        except Exception as error:  # drivers raise errors of their own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            msg = (
                f"hydra.sweeper.storage: got {_hidden(self.storage)}, which cannot be opened ({reason}); allowed is an "
                "address such as postgresql+psycopg://user@host/base or sqlite:////folder/file.db, or null"
            )
            raise SweepError([msg]) from error


@contextmanager
def opened(where: Where, space: Space, options: SearchOptions, sampler: BaseSampler) -> Iterator[Study]:
    """The study of that name, new or the one that is there; its connections are closed at the end.

    Raises:
        SweepError: When it cannot be reached, or is one of another space or other objectives.
    """
    with reached(where) as storage:
        yield _study(storage, where, space, options, sampler)


@contextmanager
def reached(where: Where) -> Iterator[BaseStorage]:
    """The storage; its connections are closed at the end.

    Raises:
        SweepError: When it cannot be reached.
    """
    storage = where.open()
    try:
        yield storage
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def _study(storage: BaseStorage, where: Where, space: Space, options: SearchOptions, sampler: BaseSampler) -> Study:
    study = optuna.create_study(
        storage=storage,
        study_name=where.name,
        directions=_directions(options.directions),
        sampler=sampler,
        load_if_exists=True,
    )
    known, mine = study.user_attrs.get(_SPACE), _told(space, options)
    if known is None:
        study.set_user_attr(_SPACE, mine)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # names for optuna-dashboard; nothing here reads them
            study.set_metric_names(list(options.objective))
    elif known != mine:
        raise SweepError([_differs(where.name, known, mine)])
    return study


def in_memory(directions: tuple[str, ...], sampler: BaseSampler | None = None) -> Study:
    """A study that nothing is left of."""
    return optuna.create_study(directions=_directions(directions), sampler=sampler)


def trial_of(study: Study, frozen: FrozenTrial) -> Trial:
    """A trial that an earlier process asked for."""
    return Trial(study, frozen._trial_id)  # Optuna's own way for other processes is this


def mine(study: Study, sweep: str) -> dict[int, FrozenTrial]:
    """A sweep's trials by the numbers of their jobs."""
    return {
        int(one.user_attrs[JOB]): one
        for one in study.get_trials(deepcopy=False)
        if one.user_attrs.get(SWEEP) == sweep and JOB in one.user_attrs
    }


def _directions(names: Sequence[str]) -> list[StudyDirection | Literal["minimize", "maximize"]]:
    return [StudyDirection[name.upper()] for name in names]


def _told(space: Space, options: SearchOptions) -> dict[str, Any]:
    return {
        "keys": {key: distribution_to_json(one) for key, one in space.distributions.items()},
        "fixed": list(space.fixed),
        "objective": [*options.objective, *options.directions],
    }


def _differs(name: str, known: dict[str, Any], mine: dict[str, Any]) -> str:
    """What keeps a search from another one's study."""
    keys = sorted({*known["keys"], *mine["keys"]})
    other = [key for key in keys if known["keys"].get(key) != mine["keys"].get(key)]
    if other:
        what = "; ".join(f"{key}: it has {_plainly(known, key)}, this one {_plainly(mine, key)}" for key in other)
    elif known["objective"] != mine["objective"]:
        what = f"it is about {' '.join(known['objective'])}, this one about {' '.join(mine['objective'])}"
    else:
        what = f"its trials have {' '.join(known['fixed']) or 'nothing set'}, these {' '.join(mine['fixed'])}"
    return f"hydra.sweeper.study: {name} is a study of another space ({what}); give another name, or the same space"


def _plainly(told: dict[str, Any], key: str) -> str:
    if key not in told["keys"]:
        return "nothing"
    one = json.loads(told["keys"][key])["attributes"]
    return str(one["choices"]) if "choices" in one else f"{one['low']} to {one['high']}"


def _hidden(address: str) -> str:
    """An address without its password."""
    try:
        return make_url(address).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(address)
