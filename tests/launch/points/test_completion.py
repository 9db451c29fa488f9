"""Tab completion: the words that may come next, and a real bash that asks for them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_foundry.launch.points.completion import completions
from tests.root import PROJECT_ROOT

_WAIT_S = 60.0  # on a busy machine; a tab is answered in half a second
_PROMPT = "ready> "


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("lora.ra", ["lora.rank="]),
        ("lor", ["lora.", "lora="]),
        ("model=", ["model=sd15", "model=sdxl", "model=tiny-sd"]),
        ("lora.rank=4 -m sweep=ra", ["sweep=rank", "sweep=rank_alpha", "sweep=rank_batch"]),
        ("data.flip=", ["data.flip=false", "data.flip=true"]),
        ("hydra.launcher.pl", ["hydra.launcher.plan_only="]),
        ("hydra.launcher.plan_only=t", ["hydra.launcher.plan_only=true"]),
        ("hydra/launcher=", ["hydra/launcher=pack"]),
        ("--mul", ["--multirun"]),
        ("--cfg ", ["all", "hydra", "job"]),
        ("'lora.ra", []),
        ("data.path=./pho", []),
    ],
)
def test_what_may_come_next(typed: str, found: list[str]) -> None:
    assert completions(f"python -m src.train {typed}") == found


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("lora-foundry st", ["status", "stop"]),
        ("/usr/bin/lora-foundry --ver", ["--version"]),
        ("lora-foundry train lora.ra", ["lora.rank="]),
        ("lora-foundry resume multi", []),
    ],
)
def test_commands_of_the_installed_program_come_first(typed: str, found: list[str]) -> None:
    assert completions(typed) == found


def test_groups_of_a_folder_of_ones_own_are_completed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one.yaml").write_text("seed: 3\n")
    line = f"python -m src.train --config-dir {tmp_path} +mine="
    assert completions(line) == ["+mine=one"]


class Bash:
    """An interactive bash on a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        there = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb", "PS1": _PROMPT}
        master, slave = pty.openpty()
        self._terminal, self._shown = master, ""
        self.process = subprocess.Popen(
            [shutil.which("bash") or "bash", "--norc", "--noprofile", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=PROJECT_ROOT,
            env=there,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # readline asks the terminal
        )
        os.close(slave)
        self.until(re.escape(_PROMPT))

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def until(self, pattern: str) -> str:
        """What was shown up to ``pattern``."""
        deadline = time.monotonic() + _WAIT_S
        while (found := re.search(pattern, self._shown)) is None:
            assert time.monotonic() < deadline, f"{pattern!r} not in {self._shown!r}"
            if select.select([self._terminal], [], [], 1.0)[0]:
                self._shown += os.read(self._terminal, 4096).decode(errors="replace")
        before, self._shown = self._shown[: found.end()], self._shown[found.end() :]
        return before

    def run(self, command: str) -> str:
        self.type(f"{command}; echo do''ne\n")
        shown = self.until("\ndone\r")
        self.until(re.escape(_PROMPT))
        return shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)


@pytest.fixture
def bash(tmp_path: Path) -> Iterator[Bash]:
    for name in ("python", "python3"):
        (tmp_path / name).symlink_to(sys.executable)
    (tmp_path / "lora-foundry").symlink_to(Path(sys.executable).with_name("lora-foundry"))
    shell = Bash(tmp_path)
    shell.run(f"export PYTHONPATH={PROJECT_ROOT}:{':'.join(path for path in sys.path if 'site-packages' in path)}")
    yield shell
    shell.close()


@pytest.mark.slow
def test_a_real_bash_completes_keys_options_and_flags(bash: Bash) -> None:
    bash.run('eval "$(python -m src.train -sc install=bash)"')
    bash.type("python -m src.train lora.ra\t")
    bash.until(r"lora\.rank=")
    bash.type("4 model=tin\t")
    bash.until(r"model=tiny-sd ")
    bash.type("--mul\t")
    bash.until("--multirun ")
    bash.type("sweep=ran\t\t\t")
    bash.until(r"rank\s+rank_alpha\s+rank_batch")


@pytest.mark.slow
def test_a_real_bash_completes_the_installed_program(bash: Bash) -> None:
    bash.run('eval "$(lora-foundry train -sc install=bash)"')
    bash.type("lora-foundry re\t\t")
    bash.until(r"resume\s+retry")
    bash.type("t\t")
    bash.until("retry ")
    bash.type("\x15lora-foundry train lora.ra\t")
    bash.until(r"lora\.rank=")
    bash.type("4 model=tin\t")
    bash.until(r"model=tiny-sd ")


@pytest.mark.slow
def test_other_lines_keep_the_rule_that_was_there_and_uninstalling_brings_it_back(bash: Bash) -> None:
    bash.run("_mine() { COMPREPLY=(from_mine); }; complete -F _mine python")
    before = bash.run("complete -p python")
    bash.run('eval "$(python -m src.train -sc install=bash)"')
    assert "_lora_foundry_complete" in bash.run("complete -p python")
    bash.type("python fro\t")
    bash.until("from_mine")
    bash.type("\x15")  # takes the line away
    bash.run('eval "$(python -m src.train -sc uninstall=bash)"')
    after = bash.run("complete -p python")
    assert "complete -F _mine python" in before
    assert "complete -F _mine python" in after
    assert "_lora_foundry" not in bash.run("complete -p python3; declare -F; echo $COMP_WORDBREAKS")
