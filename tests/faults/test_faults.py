"""Each fault of the catalogue once."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from random import Random

import pytest

from bench.faults.catalogue import FAULTS
from bench.faults.injections import can_mount
from bench.faults.lab import Lab
from tests.nursery import Popen

# Only who may mount disks can fill small ones.
POSSIBLE = [name for name, fault in FAULTS.items() if not fault.mounts or can_mount()]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One for all faults, so that they share their undisturbed sweeps."""
    made = Lab(tmp_path_factory.mktemp("lab"), Popen)
    yield made
    made.clean_up()


@pytest.mark.parametrize("name", POSSIBLE)
def test_nothing_is_lost(lab: Lab, name: str) -> None:
    verdict = FAULTS[name].story(lab, Random(zlib.crc32(name.encode())))
    assert verdict.jobs
    assert verdict.points
