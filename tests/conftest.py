"""What holds for every test: no network, no global Hydra left behind, the same random examples each time."""

from __future__ import annotations

import itertools
import logging
import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import nursery, remembered, traced
from tests.added import added

__all__ = ["added"]

os.environ["HF_HUB_OFFLINE"] = "1"
for _name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
    os.environ.pop(_name, None)  # sweeps of tests are recorded where they say, not where their user's are
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MPLBACKEND"] = "Agg"

remembered.remember()
_NUMBERS = itertools.count()

settings.register_profile(
    "repeatable",
    deadline=None,  # a busy core is no fault
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")


_TESTS = Path(__file__).parent
_WHOLE_PROGRAMS = ("commands", "faults")  # command lines from end to end, most in processes of their own
_DEAREST = ("faults", "bench", "worker", "training", "memory", "commands", "tracking")
_QUICK_S = 2.0  # several times what ``slow`` says, for a machine that is slower
_QUIET_S = 0.08  # what :func:`_slowness` does takes so long on a core that has its caches for itself


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--shuffle SEED``: another order, since no test may depend on it; ``--quick``: what is run before a commit."""
    parser.addoption("--shuffle", type=int, default=None, metavar="SEED", help="run the tests in a random order")
    parser.addoption("--quick", action="store_true", help="leave out tests that are slow or of whole programs")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``--quick`` does not even read what is of whole programs."""
    whole = any(_TESTS / room in (collection_path, *collection_path.parents) for room in _WHOLE_PROGRAMS)
    return True if whole and config.getoption("--quick") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Apply ``--quick`` and ``--shuffle``; what takes minutes begins first, so that no core waits for it at the end."""
    if config.getoption("--quick"):
        slow = [item for item in items if item.get_closest_marker("slow") is not None]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]
    items.sort(key=lambda item: _turn(item.path))
    seed = config.getoption("--shuffle")
    if seed is not None:
        random.Random(seed).shuffle(items)


def _turn(path: Path) -> int:
    """Of a file's room among those that are dear; the others come last, as they were found."""
    room = path.relative_to(_TESTS).parts[0]
    return _DEAREST.index(room) if room in _DEAREST else len(_DEAREST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """With ``--quick`` a test fails that is not, so that the quick ones stay quick and nobody keeps a list of them."""
    before = _processor_s()
    yield
    took = _processor_s() - before
    if item.config.getoption("--quick") and took > _QUICK_S and took > (allowed := _QUICK_S * _slowness()):
        pytest.fail(f"took {took:.1f} s of a processor, {allowed:.1f} s are allowed now: mark it pytest.mark.slow")


def _processor_s() -> float:
    """Of this process and of the children that it waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _slowness() -> float:
    """How much longer a processor takes now than a quiet one does: cores that share caches slow one another down."""
    took = []
    for _ in range(5):
        before = time.process_time()
        {str(number): number * number for number in range(200_000)}
        took.append(time.process_time() - before)
    return max(1.0, max(took) / _QUIET_S)


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


@pytest.fixture(scope="session")
def kept_traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of this code, by every process of every run, unless pytest is to keep nothing; see :mod:`tests.traced`."""
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    return traced.store_below(tmp_path_factory.mktemp("kept") if cache is None else cache.mkdir("traces"))


@pytest.fixture(scope="module")
def traces(kept_traces: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ``data.cache_dir`` in which steps are traced already, where a trace is not what is tested."""
    folder = tmp_path_factory.mktemp("traces")
    with traced.lent(kept_traces, folder):
        yield folder


@pytest.fixture
def own_traces(kept_traces: Path, tmp_path: Path) -> Iterator[Path]:
    """The same for one test, which writes there."""
    with traced.lent(kept_traces, tmp_path):
        yield tmp_path


@pytest.fixture(autouse=True, scope="session")
def _locks_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sweeps of tests wait for no sweep of the user's."""
    os.environ["LORA_FOUNDRY_LOCKS"] = str(tmp_path_factory.getbasetemp() / "locks")


@pytest.fixture(autouse=True, scope="session")
def _processes_that_need_not_import(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where tests ask :mod:`tests.nursery` for a process, all of pytest-xdist's ask the same one."""
    base, beside = tmp_path_factory.getbasetemp(), "PYTEST_XDIST_WORKER" in os.environ
    nursery.open_for(base.parent if beside else base, os.getppid() if beside else os.getpid())


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
