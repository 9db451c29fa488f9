"""Processes that are forked are what :mod:`subprocess` starts: pipes, exit codes, signals, locks and surroundings."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import nursery

_LOOKS = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "there": "SURELY" in os.environ, "said": sys.stdin.read(),
                  "pid": os.getpid(), "mlflow": "mlflow" in sys.modules, "group": os.getpgid(0), "name": __name__}))
sys.stderr.write("complains")
sys.exit(7)
"""
_WAITS = "import time\nprint('waits', flush=True)\ntime.sleep(60)\n"


def _line(folder: Path, text: str, *words: str) -> list[str]:
    (folder / "looks.py").write_text(text)
    return [sys.executable, "-m", "looks", *words]


@pytest.mark.slow
@pytest.mark.parametrize("popen", [subprocess.Popen, nursery.Popen])
def test_it_is_where_and_what_it_was_asked_to_be(popen: type[subprocess.Popen[str]], tmp_path: Path) -> None:
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    env = {**os.environ, "SURELY": "1"}
    line = _line(tmp_path, _LOOKS, "a", "b c")
    with popen(line, cwd=tmp_path, env=env, text=True, start_new_session=True, **streams) as process:  # type: ignore[call-overload]
        out, err = process.communicate("hello")
    told = json.loads(out)
    assert process.returncode == 7
    assert err == "complains"
    assert told.pop("mlflow") is (popen is nursery.Popen), "the point of it all"
    assert told == {
        "argv": ["a", "b c"], "cwd": str(tmp_path), "there": True, "said": "hello", "name": "__main__",
        "pid": process.pid, "group": process.pid,
    }  # fmt: skip


@pytest.mark.slow
def test_it_is_killed_and_lets_go_of_what_it_held(tmp_path: Path) -> None:
    held = (tmp_path / "lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    process = nursery.Popen(
        _line(tmp_path, _WAITS), cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True, pass_fds=[held.fileno()]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"waits\n"
    assert process.poll() is None
    held.close()
    with (tmp_path / "lock").open("w") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.stdout.close()


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["-c", "import sys; print('mlflow' in sys.modules)"], {}),
        (["-m", "looks"], {"PYTHONPATH": "/elsewhere"}),
        (["-m", "looks"], {"PYTHONHASHSEED": "3"}),
        (["-m", "looks"], {"LC_ALL": "C"}),
    ],
)
def test_what_an_interpreter_reads_at_its_start_starts_one(
    words: list[str], changed: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "looks.py").write_text("import sys; print('mlflow' in sys.modules)")
    done = nursery.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, **changed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_a_nursery_is_one_for_all_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = nursery.address("launcher")
    assert here != nursery.address("worker")
    monkeypatch.setenv("LORA_FOUNDRY_TESTS_FOLDER", str(tmp_path))
    assert nursery.address("launcher") != here
