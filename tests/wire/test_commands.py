"""What a worker is told, and what a person asks of a sweep: the bytes, and what is passed over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_foundry.wire.commands import (
    COMMANDS,
    Command,
    ExitCommand,
    JoinCommand,
    OwnDevice,
    PackCommand,
    PackedJob,
    PruneJobCommand,
    StopCommand,
    StopJobCommand,
)
from lora_foundry.wire.control import FILE, Control, ask_to_stop

JOB = PackedJob(job=3, dir=Path("/d"), name="n", resume=True)
CARD = OwnDevice(kind="cuda", memory=8)
_DEVICE = '"device": {"kind": "cuda", "memory": 8}, '
_JOBS = '"jobs": [{"job": 3, "dir": "/d", "name": "n", "resume": true}]'


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (
            PackCommand(pack="p", spool=Path("/s"), device=CARD, least_gain=None, jobs=(JOB,)),
            '{"cmd": "pack", "pack": "p", "spool": "/s", ' + _DEVICE + '"least_gain": null, ' + _JOBS + "}",
        ),
        (
            JoinCommand(pack="p", spool=Path("/s"), device=CARD, least_gain=1.05, jobs=(JOB,)),
            '{"cmd": "join", "pack": "p", "spool": "/s", ' + _DEVICE + '"least_gain": 1.05, ' + _JOBS + "}",
        ),
        (StopCommand(), '{"cmd": "stop"}'),
        (StopJobCommand(job=3), '{"cmd": "stop_job", "job": 3}'),
        (PruneJobCommand(job=3), '{"cmd": "prune_job", "job": 3}'),
        (ExitCommand(), '{"cmd": "exit"}'),
    ],
)
def test_a_command_is_one_line_and_back(command: Command, written: str) -> None:
    assert COMMANDS.written(command) == written.encode() + b"\n"
    assert COMMANDS.read(written) == command
    assert type(COMMANDS.read(written)) is type(command), "a join is not taken for a pack"


@pytest.mark.parametrize(
    "changed", [{"job": "3"}, {"dir": None}, {"resume": 1}, {"name": ["n"]}], ids=lambda one: next(iter(one))
)
def test_a_pack_with_a_wrong_job_is_no_command(changed: dict[str, object]) -> None:
    command = PackCommand(pack="p", spool=Path("/s"), device=CARD, least_gain=None, jobs=(JOB,))
    told = json.loads(COMMANDS.written(command))
    assert COMMANDS.parsed(told) is not None
    told["jobs"][0] |= changed
    assert COMMANDS.parsed(told) is None


def test_what_is_asked_is_read_once_and_only_from_now_on(tmp_path: Path) -> None:
    ask_to_stop(tmp_path, 7)
    control = Control(tmp_path)
    assert control.stops() == []
    ask_to_stop(tmp_path, 2)
    ask_to_stop(tmp_path)
    with (tmp_path / FILE).open("a") as file:
        file.write('garbage\n{"t": 1.0, "cmd": "of a later version"}\n{"t": 1.0, "cmd": "stop", "jo')
    assert control.stops() == [2, None]
    assert control.stops() == []


def test_a_sweep_that_nobody_asked_anything_of(tmp_path: Path) -> None:
    assert Control(tmp_path).stops() == []
