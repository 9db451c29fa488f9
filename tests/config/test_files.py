"""Files are whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lora_foundry.config.files import remove_torn, write_atomic, write_json
from tests.root import PROJECT_ROOT

# Writes one of two large contents for ever; a reader may see either, never a part of one.
ENDLESS_WRITER = """
import sys
from pathlib import Path
from lora_foundry.config.files import write_atomic
path = Path(sys.argv[1])
write_atomic(path, b"a" * 300_000)
print("ready", flush=True)
while True:
    write_atomic(path, b"b" * 500_000)
    write_atomic(path, b"a" * 300_000)
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_content_arrives_and_folders_are_made(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "c.txt", "grüße")
    write_atomic(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "a/b/c.txt").read_bytes() == "grüße".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert names(tmp_path / "a/b") == ["c.txt"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o027, 0o640)])
def test_who_may_read_a_file_is_the_umasks_to_say(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "made" / "x", "1")
        write_atomic(tmp_path / "made" / "x", "2")
    finally:
        os.umask(before)
    assert (tmp_path / "made" / "x").stat().st_mode & 0o777 == mode
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o777 & ~mask


def test_json_is_written_with_a_last_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1, 2.5, None]})
    text = (tmp_path / "x.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": [1, 2.5, None]}


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["oserror", "ctrl-c"])
def test_an_error_on_the_way_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "weights"
    write_atomic(path, "old")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(type(error)):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["weights"]


def test_content_is_synced_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "file")
        fsync(descriptor)

    def noting_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        assert self.read_bytes() == b"content"
        assert self.parent == target.parent, "a rename across folders may cross file systems"
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    write_atomic(tmp_path / "x", b"content")
    assert order == ["file", "rename", "folder"]


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS_WRITER, str(path)], cwd=PROJECT_ROOT, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        seen = {path.read_bytes() for _ in range(50)}
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    seen.add(path.read_bytes())
    assert seen <= {b"a" * 300_000, b"b" * 500_000}


@pytest.mark.slow
def test_what_a_killed_writer_left_half_written_is_removed(tmp_path: Path) -> None:
    kill = "import os; os.fsync = lambda _: os.kill(os.getpid(), 9); from lora_foundry.config.files import write_atomic"
    line = f"{kill}; from pathlib import Path; write_atomic(Path({str(tmp_path / 'a' / 'file')!r}), 'half')"
    assert subprocess.run([sys.executable, "-c", line], cwd=PROJECT_ROOT, check=False).returncode == -signal.SIGKILL
    assert len(names(tmp_path / "a")) == 1
    write_atomic(tmp_path / "a" / "whole", "whole")
    remove_torn(tmp_path)
    assert names(tmp_path / "a") == ["whole"]
    remove_torn(tmp_path / "nowhere")


def test_writers_at_once_leave_one_of_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "x"
    contents = [bytes([65 + i]) * 10_000 for i in range(6)]
    threads = [threading.Thread(target=write_atomic, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["x"]
