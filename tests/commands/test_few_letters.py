"""A terminal whose alphabet lacks a path's letters shows them escaped; no command dies of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.ran import FAKE_WORKER
from tests.root import PROJECT_ROOT

_ASCII = {"PYTHONIOENCODING": "ascii"}


def _run(folder: Path, surrounding: dict[str, str], *words: str) -> subprocess.CompletedProcess[bytes]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    path = {"PYTHONPATH": str(PROJECT_ROOT), "LORA_FOUNDRY_LOCKS": str(folder / "locks")}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env={**kept, **path, **surrounding}, capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("surrounding", [_ASCII, {"LANG": "C"}], ids=["ascii", "LANG=C"])
def test_a_sweep_in_a_folder_beyond_ascii_trains_and_all_commands_speak_of_it(
    tmp_path: Path, surrounding: dict[str, str], traces: Path
) -> None:
    sweep = "größe ü/s"
    (tmp_path / "bilder ü").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "foundry").symlink_to(traces)

    def run(*words: str) -> tuple[int, str]:
        done = _run(tmp_path, surrounding, *words)
        assert b"Traceback" not in done.stderr + done.stdout, (done.stdout + done.stderr).decode(errors="replace")
        if surrounding == _ASCII:
            assert (done.stdout + done.stderr).isascii()
        return done.returncode, (done.stdout + done.stderr).decode()

    where = f"hydra.sweep.dir='{sweep}'"
    if surrounding == _ASCII:
        assert run("src.train", where, "tracking=none", "hydra.launcher.plan_only=true")[0] == 0
    code, said = run("src.train", where, "tracking=none", FAKE_WORKER, "lora.rank=4,8", "-m")
    assert code == 0
    assert ("gr\\xf6\\xdfe \\xfc/s" if surrounding == _ASCII else sweep) in said
    assert (tmp_path / sweep / "multirun.yaml").is_file()
    assert b'"state": "FINISHED"' in (tmp_path / sweep / "journal.jsonl").read_bytes()
    assert run("src.status", sweep)[0] == 0
    if surrounding != _ASCII:
        return  # an interpreter takes it for UTF-8, as everywhere else
    assert run("src.train", where, "tracking=none")[0] == 2, "it holds a sweep already"
    assert run("src.status", sweep, "--csv")[0] == 0
    assert run("src.resume", sweep)[0] == 0
    assert run("src.retry", sweep)[0] == 0
    assert run("src.stop", sweep)[0] == 2, "it is not running"
    assert run("src.status", "nirgends ü")[0] == 2
    assert run("src.predict", "name=müller")[0] == 2
    assert run("src.train", "--cfg", "job", "data.caption_prefix='ü, '")[0] == 0
    assert run("src.train", "ü=3")[0] == 2
