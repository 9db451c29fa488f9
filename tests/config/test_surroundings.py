"""What a process finds around it: recognised, forgotten, made whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from lora_foundry.config.surroundings import foreign, forget_foreign, past_proxies, threads_asked
from tests.root import PROJECT_ROOT
from tests.surroundings import CLUSTERS, PROXIES, RANKS, TRACKERS, TRAINERS


@pytest.mark.parametrize("name", [*RANKS, *CLUSTERS, *TRAINERS, *TRACKERS])
def test_what_speaks_to_another_program_is_foreign(name: str) -> None:
    assert foreign(name)


@pytest.mark.parametrize("name", ["PATH", "HOME", "HF_HOME", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", *PROXIES])
def test_what_speaks_of_the_machine_is_not(name: str) -> None:
    assert not foreign(name)


def test_it_is_forgotten_and_the_rest_stays() -> None:
    environment = {**RANKS, "HF_HOME": "/here"}
    assert forget_foreign(environment) == sorted(RANKS)
    assert environment == {"HF_HOME": "/here"}


@pytest.mark.parametrize(
    ("text", "threads"),
    [("4", 4), ("1,4", 1), (" 3 ", 3), ("0", None), ("-1", None), ("0x7", None), ("", None), (None, None), ("²", None)],
)
def test_threads_that_are_asked_for(text: str | None, threads: int | None) -> None:
    assert threads_asked(text) == threads


def test_this_machine_is_reached_past_a_proxy_and_what_the_user_excepted_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PROXIES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("no_proxy", "example.org, localhost")
    monkeypatch.delenv("NO_PROXY", raising=False)
    past_proxies()
    for address in ("http://127.0.0.1:5000", "http://localhost:5000", "http://example.org"):
        assert requests.utils.get_environ_proxies(address) == {}
    assert requests.utils.get_environ_proxies("http://far.away.example")
    assert os.environ["no_proxy"] == "example.org,localhost,127.0.0.1,::1"


def _settled(then: str, *, closed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"from lora_foundry.config.surroundings import settle; settle(); {then}"
    words = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", code]
    return subprocess.run(
        words, cwd=PROJECT_ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_without_standard_streams_the_next_file_is_not_one_of_them(tmp_path: Path) -> None:
    told = tmp_path / "told"
    then = f"import sys; f = open({str(told)!r}, 'w'); f.write(f'{{f.fileno()}} {{sys.stdin.read()!r}}'); print(1)"
    done = _settled(then, closed="<&- >&- 2>&-")
    assert done.returncode == 0
    number, read = told.read_text().split()
    assert int(number) > 2
    assert read == "''"


@pytest.mark.parametrize("wish", ["error", "error::DeprecationWarning", "e"])
def test_no_library_dies_of_its_own_warning(wish: str) -> None:
    done = _settled("import warnings; warnings.warn('old', DeprecationWarning)", PYTHONWARNINGS=wish)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "as where nobody asks for anything"


@pytest.mark.slow
def test_what_a_user_wishes_to_see_is_shown() -> None:
    done = _settled("import warnings; warnings.warn('old', DeprecationWarning)", PYTHONWARNINGS="default")
    assert "DeprecationWarning: old" in done.stderr
