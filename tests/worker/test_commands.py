"""Commands in order; a stop overtakes them."""

from __future__ import annotations

import io

import pytest

from lora_foundry.wire.commands import COMMANDS, Command, ExitCommand
from lora_foundry.worker.commands import Commands

PACK = '{"cmd": "pack", "pack": "%s", "spool": "/s", "device": {"kind": "cpu"}, '
PACK += '"jobs": [{"job": 3, "dir": "/d", "name": "n", "resume": true}]}\n'


def _command(line: str) -> Command:
    found = COMMANDS.read(line)
    assert found is not None
    return found


def _read(text: str) -> Commands:
    commands = Commands(io.StringIO(text))
    commands._read()
    return commands


def test_packs_come_in_order_and_exit_comes_last() -> None:
    commands = Commands(io.StringIO())
    for line in (PACK % "a", PACK % "b"):
        commands._take(_command(line))
    commands._take(ExitCommand())
    first, second = commands.next_pack(), commands.next_pack()
    assert first is not None
    assert second is not None
    assert (first.pack, second.pack) == ("a", "b")
    job = first.jobs[0]
    assert (job.job, str(job.dir), job.name, job.resume) == (3, "/d", "n", True)
    assert commands.next_pack() is None
    assert not commands.stopping()


def test_one_job_is_stopped_or_pruned_until_it_is_sent_again() -> None:
    commands = Commands(io.StringIO())
    for line in (PACK % "a", '{"cmd": "stop_job", "job": 3}', '{"cmd": "prune_job", "job": 3}'):
        commands._take(_command(line))
    assert (commands.stopped(), commands.pruned()) == ({3}, {3})
    assert not commands.stopping()
    commands._take(_command(PACK % "b"))
    assert (commands.stopped(), commands.pruned()) == (set(), set())


def test_a_closed_pipe_is_a_stop() -> None:
    commands = _read(PACK % "a")
    assert commands.stopping()
    assert commands.next_pack() is None


def test_a_line_that_is_no_command_is_told_and_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    _read('nonsense\n{"cmd": "dance"}\n')
    told = capsys.readouterr().err
    assert "nonsense" in told
    assert "allowed are pack, join, stop, stop_job, prune_job and exit" in told
