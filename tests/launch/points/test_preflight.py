"""What jobs name, looked at once for all jobs that agree; the looks are fakes that count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.farm.prepared import ready
from lora_foundry.launch.points.point import said_once
from lora_foundry.launch.points.preflight import Asked, Look, Looks, full_disk, unready
from lora_foundry.launch.records.record import StoredSweep
from lora_foundry.launch.records.resume import Resumed
from lora_foundry.tracking.records import JobRecord
from tests.launch.jobs import job


def _asked(path: str, cache: Path) -> Asked:
    return Asked(config=job(data__path=path, data__cache_dir=str(cache)))


class Counting:
    """Finds what it was told to find, and remembers what it was asked."""

    def __init__(self, **problems: Sequence[str]) -> None:
        self.problems = problems
        self.asked: list[str] = []

    def look(self, asked: Asked, start: Path) -> Sequence[str]:
        del start
        self.asked.append(asked.config.data.path)
        return self.problems.get(asked.config.data.path, ())

    @property
    def looks(self) -> Looks:
        return Looks(looks=(Look(decides=lambda asked: asked.config.data.path, problems=self.look),))


def test_a_thousand_jobs_on_one_data_set_are_one_look(tmp_path: Path) -> None:
    counting = Counting(bad=["it is gone"])
    config = _asked("bad", tmp_path)
    found = unready(dict.fromkeys(range(1000), config), counting.looks, tmp_path)
    assert counting.asked == ["bad"]
    assert len(found) == 1000
    assert said_once(found, dict.fromkeys(range(1000), ())) == ["it is gone"]


def test_each_problem_is_said_once_with_the_points_that_have_it(tmp_path: Path) -> None:
    counting = Counting(a=["gone", "torn"], b=["gone"])
    configs = {n: _asked(path, tmp_path) for n, path in enumerate("ab.a")}
    words = {n: (f"data.path={path}",) for n, path in enumerate("ab.a")}
    assert said_once(unready(configs, counting.looks, tmp_path), words) == [
        "point 0 (data.path=a), point 1 (data.path=b), point 3 (data.path=a): gone",
        "point 0 (data.path=a), point 3 (data.path=a): torn",
    ]


def test_of_many_problems_the_first_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    counting = Counting(a=[f"row {n}" for n in range(60)])
    (lines,) = unready({0: _asked("a", tmp_path)}, counting.looks, tmp_path).values()
    assert (len(lines), lines[-1]) == (51, "and 10 more problems of the same files")


def test_a_cache_that_cannot_be_written_is_a_problem_of_every_job(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    asked = Asked(config=job(data__cache_dir="file/cache"))
    (lines,) = unready({0: asked}, Looks(), tmp_path).values()
    assert lines == [
        f"data.cache_dir: {tmp_path}/file/cache cannot be written ({tmp_path}/file is a file); give a folder that can"
    ]


def test_a_disk_too_small_for_what_is_known_is_told_before_anything_is_made(tmp_path: Path) -> None:
    config = job()
    assert full_disk(tmp_path / "s", [config] * 8, Looks()) == []
    (line,) = full_disk(tmp_path / "s", [config] * 8, Looks(adapter_bytes=lambda _: 2**58))
    assert line.startswith(f"hydra.sweep.dir: {tmp_path}/s has ")
    assert "at least 4.29e+09 GiB needed for records and adapters of 8 jobs" in line


def _resumed(folder: Path, **paths: str) -> Resumed:
    jobs = tuple(
        JobRecord(
            index=number,
            name=name,
            dir=folder / str(number),
            config=job(data__path=path, data__cache_dir=str(folder), tracking__enabled=False),
            overrides={},
            pack="pack-0",
        )
        for number, (name, path) in enumerate(paths.items())
    )
    sweep = StoredSweep(
        format=1, id="s", command="python -m src.train", created=0.0, cwd=None, config_dir=None, jobs=()
    )
    packs = (("pack-0", tuple(one.index for one in jobs)),)
    return Resumed(sweep_dir=folder, sweep=sweep, jobs=jobs, packs=packs, cwd=folder, notes=())


def test_a_sweep_goes_on_without_the_jobs_whose_files_are_gone(tmp_path: Path) -> None:
    looks = Counting(gone=["data.path: gone"]).looks
    left = ready(_resumed(tmp_path, one="gone", two="there", three="gone"), looks)
    assert [one.name for one in left.jobs] == ["two"]
    assert left.packs == (("pack-0", (1,)),)
    (told,) = left.refused
    assert told.startswith("one, three: data.path: gone.")
    with pytest.raises(SweepError, match=r"one: data\.path: gone"):
        ready(_resumed(tmp_path, one="gone"), looks)
