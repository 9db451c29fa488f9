"""``python -m src.train`` in this process, with a worker that trains nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lora_foundry.commands import train
from tests import nursery
from tests.commands.ran import FAKE_WORKER, Command, Ran


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of data that a test may change; nothing opens the images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "abcdef":
        (folder / f"{name}.png").write_bytes(name.encode() * 9)
        (folder / f"{name}.txt").write_text(f"photo {name}")
    return folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``command("lora.rank=4,8", "-m")`` runs a sweep in ``tmp_path/sweep`` without tracking."""

    def run(*words: str, sweep_dir: Path | None = tmp_path / "sweep") -> Ran:
        extra = [] if any("worker_command" in word for word in words) else [FAKE_WORKER]
        extra += [f"hydra.sweep.dir={sweep_dir}"] if sweep_dir is not None else []
        extra += [] if any(word.startswith("tracking") for word in words) else ["tracking=none"]
        monkeypatch.setattr(sys, "argv", ["train.py", *words, *extra])
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr("lora_foundry.launch.machines.engines.local.subprocess", nursery.SUBPROCESS)
        capsys.readouterr()
        try:
            code = train.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Ran(code=code, out=captured.out, err=captured.err, sweep_dir=sweep_dir or tmp_path)

    return run
