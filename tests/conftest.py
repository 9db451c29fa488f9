"""What holds for every test: no network, no global Hydra left behind, the same random examples each time."""

from __future__ import annotations

import itertools
import logging
import os
import random
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"
for _name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
    os.environ.pop(_name, None)  # sweeps of tests are recorded where they say, not where their user's are
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MPLBACKEND"] = "Agg"

_NUMBERS = itertools.count()

settings.register_profile(
    "repeatable",
    deadline=None,  # a busy core is no fault
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--shuffle SEED``: run the tests in another order, since none may depend on it."""
    parser.addoption("--shuffle", type=int, default=None, metavar="SEED", help="run the tests in a random order")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Apply ``--shuffle``."""
    seed = config.getoption("--shuffle")
    if seed is not None:
        random.Random(seed).shuffle(items)


@pytest.fixture(autouse=True)
def _environment_as_it_was() -> Iterator[None]:
    """What a test or a library sets for good, the next test's processes would inherit.

    After ``mlflow.set_tracking_uri``, say, every sweep would record there. This is set up before ``monkeypatch``, so
    that it is the last to look.
    """
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    for name in before.keys() | after.keys():
        if before.get(name) != after.get(name) and name != "PYTEST_CURRENT_TEST":
            os.environ.pop(name, None)
            os.environ.update({name: before[name]} if name in before else {})


@pytest.fixture(autouse=True)
def _no_network(_environment_as_it_was: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that leaves this machine fails the test; loopback and Unix sockets work."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        if inet and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            pytest.fail(f"a test reached for the network: {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True, scope="session")
def _locks_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sweeps of tests wait for no sweep of the user's."""
    os.environ["LORA_FOUNDRY_LOCKS"] = str(tmp_path_factory.getbasetemp() / "locks")


@pytest.fixture(autouse=True)
def _locks_of_this_test(
    _environment_as_it_was: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nor for what an earlier test left behind."""
    folder = tmp_path_factory.getbasetemp() / f"locks-{next(_NUMBERS)}"  # made by the first sweep, if any
    monkeypatch.setenv("LORA_FOUNDRY_LOCKS", str(folder))


@pytest.fixture(autouse=True)
def _no_hydra_left() -> Iterator[None]:
    """Hydra keeps one global state; a test that leaves it set would break the next."""
    yield
    if "hydra.core.global_hydra" in sys.modules:
        sys.modules["hydra.core.global_hydra"].GlobalHydra.instance().clear()


@pytest.fixture(autouse=True)
def _loggers_that_speak() -> None:
    """Hydra's ``job_logging: disabled`` silences every logger of the process for good; the next test reads them."""
    logging.getLogger().setLevel(logging.WARNING)
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
