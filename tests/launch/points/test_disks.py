"""What a disk can take, asked of the disk itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_foundry.launch.points.disks import in_units, no_space, too_long, unwritable
from lora_foundry.launch.points.names import LONGEST_NAME, Names
from tests.launch.jobs import job


def test_a_name_is_too_long_where_the_disk_says_so(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    fits, not_any_more = tmp_path / ("n" * longest), tmp_path / ("é" * (longest // 2 + 1))
    assert too_long(fits / "below") is None
    fits.mkdir()
    why = too_long(not_any_more / "below")
    assert why is not None
    assert f"has {longest + 1 if longest % 2 else longest + 2} bytes, this disk allows {longest}" in why
    assert unwritable(not_any_more) == why
    with pytest.raises(OSError, match="File name too long"):
        not_any_more.mkdir()


def test_a_path_is_too_long_with_the_files_that_come_below_it(tmp_path: Path) -> None:
    deep = tmp_path
    while len(str(deep)) < 3950:
        deep = deep / ("d" * 100)
    assert too_long(deep) is None
    assert "with the files of an adapter below it" in str(too_long(deep, for_job=True))
    assert "allowed is less than 4096" in str(too_long(deep / ("d" * 200) / ("d" * 200)))


@pytest.mark.slow
def test_room_is_left_for_the_longest_file_that_a_job_writes(tmp_path: Path) -> None:
    long = "n" * 300
    names = Names().name([job(name=long)] * 12, [{}] * 12).names
    assert max(map(len, names)) <= LONGEST_NAME
    folder = tmp_path
    while too_long(folder / "dddddddddd", for_job=True) is None:
        folder = folder / "dddddddddd"
    adapters = folder / "adapter" / "diffusers" / "steps"
    adapters.mkdir(parents=True)
    (adapters / f".{'n' * LONGEST_NAME}-step00001000.diffusers.safetensors.abcdefgh.tmp").touch()


def test_space_is_asked_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    assert no_space(tmp_path / "a" / "b", 1) is None
    told = no_space(tmp_path / "a" / "b", 2**60)
    assert told is not None
    assert told.endswith(" free, at least 1.07e+09 GiB needed")
    assert [in_units(n) for n in (0, 8192, 3 * 2**20, 5 * 2**29)] == ["0 bytes", "8 KiB", "3 MiB", "2.5 GiB"]
