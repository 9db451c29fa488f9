"""A reader that leaves early ends a command quietly, whichever it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.ran import Command
from tests.root import PROJECT_ROOT

_BY_SIGNAL = -13  # what only shows something through Hydra ends as cat would


@pytest.mark.parametrize(
    "words",
    [
        ["src.status", "--csv"],
        ["src.status", "--json"],
        ["src.status"],
        ["src.resume"],
        ["src.resume", "--help"],
        ["src.retry", "--help"],
        ["src.stop", "--help"],
        ["src.report", "--help"],
        ["src.track", "--help"],
        ["src.predict", "--help"],
        ["src.train", "--help"],
        ["src.train", "--version"],
        ["src.train", "--cfg", "job"],
    ],
    ids=" ".join,
)
def test_a_reader_that_leaves_is_no_fault(words: list[str], command: Command, tmp_path: Path) -> None:
    if words[0] in ("src.status", "src.resume") and words[-1] != "--help":
        command("seed=0,1", "-m", sweep_dir=tmp_path / "multirun" / "a")
        words = [*words, "--root", str(tmp_path / "multirun")]
    line = [sys.executable, "-m", *words]
    with subprocess.Popen(line, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode in (0, _BY_SIGNAL)
    assert said == ""
