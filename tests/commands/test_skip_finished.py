"""The same command once more (``hydra.launcher.skip_finished=true``), with a worker that trains nothing."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from lora_foundry.launch.farm import again
from lora_foundry.launch.farm.again import earlier_sweeps
from lora_foundry.launch.records.journal import Journal
from tests.commands.ran import Command, Ran
from tests.commands.stopping import began, ends, stopped_after, sweeps_in
from tests.launch.seeds import Seed, seeds
from tests.phrases import BUSY, HOLDS_A_SWEEP, NOTHING_TO_TRAIN

SKIP = "hydra.launcher.skip_finished=true"
DATA = ("data=folder", "data.name=photos", "data.resolution=64")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traces: Path) -> Path:
    """Where sweeps land without ``hydra.sweep.dir``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "foundry").symlink_to(traces)
    return tmp_path / "multirun"


@pytest.fixture
def train(command: Command, here: Path, photos: Path) -> Command:
    """``train("lora.rank=4,8")``: a sweep on data of the test's own, below ``here``."""
    assert not here.exists()

    def run(*words: str, sweep_dir: Path | None = None) -> Ran:
        return command(*words, *DATA, f"data.path={photos}", "-m", sweep_dir=sweep_dir)

    return run


def test_all_finished_trains_nothing_and_lists_why(train: Command, here: Path) -> None:
    assert train("lora.rank=4,8").code == 0
    (folder,) = sweeps_in(here)
    ran = train("lora.rank=4,8", SKIP)
    assert ran.code == 0
    assert "skipped: finished, same config and data: photos-rank4, photos-rank8\n" in ran.out
    assert NOTHING_TO_TRAIN in ran.out
    assert sweeps_in(here) == [folder]
    assert began(folder) == [[0, 1]]


def test_an_unfinished_sweep_goes_on_in_its_own_folder_whatever_the_order(train: Command, here: Path) -> None:
    words = ("lora.rank=4,8", "hydra.launcher.pack_size=1")
    with stopped_after(here, finished=2):
        assert train(seeds(1, Seed.ENDLESS), *words).code == 130
    (folder,) = sweeps_in(here)
    assert [state for state in ends(folder) if state != "RUNNING"] == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    (folder / "let-end").touch()
    ran = train(seeds(Seed.ENDLESS, 1), *words, "sample=none", "trainer.log_every=7", SKIP)
    assert ran.code == 0, ran.out
    assert sweeps_in(here) == [folder]
    assert began(folder)[3:] == [[2], [3]]
    assert "goes on from its last checkpoint" in ran.out
    assert "skipped: finished, same config and data: photos-rank4-seed1, photos-rank8-seed1\n" in ran.out
    assert {row["state"] for row in json.loads((folder / "results.json").read_text())} == {"FINISHED"}
    resumed = [json.loads(line) for line in (folder / "commands.jsonl").read_text().splitlines()]
    assert [line["jobs"][0]["resume"] for line in resumed if line["cmd"] == "pack"] == [
        False,
        False,
        False,
        True,
        False,
    ]


def test_a_folder_of_ones_own_is_gone_on_with(train: Command, here: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    with stopped_after(own, finished=0):
        train(seeds(Seed.ENDLESS), sweep_dir=own)
    (own / "let-end").touch()
    refused = train(seeds(Seed.ENDLESS), sweep_dir=own)
    assert refused.code == 2
    assert HOLDS_A_SWEEP in refused.err
    assert SKIP in refused.err
    assert train(seeds(Seed.ENDLESS), SKIP, sweep_dir=own).code == 0
    assert ends(own)[-1] == "FINISHED"
    other = train("seed=5", SKIP, sweep_dir=own)
    assert other.code == 2, "another command's sweep is not written over"
    assert not here.exists()


def test_points_that_no_sweep_has_train_in_a_new_one_and_the_finished_are_listed(train: Command, here: Path) -> None:
    train("lora.rank=4")
    train("lora.rank=16")
    first, second = sweeps_in(here)
    ran = train("lora.rank=4,8,16,32", SKIP)
    assert ran.code == 0
    new = sweeps_in(here)[-1]
    assert sorted(path.name for path in new.iterdir() if path.name.isdigit()) == ["1", "3"]
    assert began(new) == [[1, 3]]
    for folder, rank in ((first, 4), (second, 16)):
        file = folder.relative_to(Path.cwd()) / "0" / "adapter" / f"photos-rank{rank}.safetensors"
        assert f"skipped: finished, same config and data: photos-rank{rank}, {file}\n" in ran.out
    assert (began(first), began(second)) == ([[0]], [[0]])

    last = train("lora.rank=4,8", SKIP)
    assert last.code == 0
    assert NOTHING_TO_TRAIN in last.out, "no single sweep has both, yet both are finished"
    assert len(sweeps_in(here)) == 3


def test_a_finished_job_without_its_file_is_trained_again(train: Command, here: Path) -> None:
    train("lora.rank=4,8")
    (folder,) = sweeps_in(here)
    shutil.rmtree(folder / "1" / "adapter")
    assert train("lora.rank=4,8", SKIP).code == 0
    assert began(folder) == [[0, 1], [1]]


def test_another_configuration_is_another_command(train: Command, here: Path) -> None:
    train("lora.rank=4,8")
    assert train("lora.rank=4,8", "optimizer.lr=0.125", SKIP).code == 0
    assert [began(folder) for folder in sweeps_in(here)] == [[[0, 1]], [[0, 1]]]


@pytest.mark.parametrize("ranks", ["4,8", "4,8,16"], ids=["all in one sweep", "some in an earlier sweep"])
def test_changed_data_is_refused_before_anything_starts(train: Command, here: Path, photos: Path, ranks: str) -> None:
    train("lora.rank=4,8")
    (photos / "b.png").write_bytes(b"another")
    ran = train(f"lora.rank={ranks}", SKIP)
    assert ran.code == 2
    assert f"data.path ({photos}): 1 file altered (b.png)" in ran.err
    assert f"train anew: python -m src.train lora.rank={ranks} data=folder" in ran.err.replace("'", "").replace(
        " --multirun", " -m"
    )
    assert SKIP not in ran.err
    assert len(sweeps_in(here)) == 1
    assert began(sweeps_in(here)[0]) == [[0, 1]]


def test_failed_jobs_stay_failed_until_they_are_asked_for(train: Command, here: Path) -> None:
    assert train(seeds(1, Seed.DIVERGES)).code == 1
    ran = train(seeds(1, Seed.DIVERGES), SKIP)
    assert ran.code == 1
    assert "skipped, failed (python -m src.retry tries again): photos-rank8-seed13" in ran.out
    assert began(sweeps_in(here)[0]) == [[0, 1]]


def test_without_the_option_a_new_sweep_starts_and_one_line_tells_of_the_unfinished_one(
    train: Command, here: Path
) -> None:
    with stopped_after(here, finished=1):
        train(seeds(1, Seed.ENDLESS), "hydra.launcher.pack_size=1")
    (folder,) = sweeps_in(here)
    with stopped_after(here, finished=1):
        ran = train(seeds(1, Seed.ENDLESS), "hydra.launcher.pack_size=1")
    near = folder.relative_to(Path.cwd())
    (told,) = (" ".join(line.split()) for line in ran.out.splitlines() if "has the same jobs" in line)
    assert told == (
        f"{near} has the same jobs, unfinished (1 of 2 done). To go on there instead: "
        f"python -m src.resume {near}, or this command with {SKIP}"
    )
    assert len(sweeps_in(here)) == 2
    other = train("seed=1,2")
    assert "has the same jobs" not in other.out
    (sweeps_in(here)[1] / "let-end").touch()
    assert train(seeds(1, Seed.ENDLESS), SKIP).code == 0
    assert "has the same jobs" not in train("seed=1", "hydra.launcher.plan_only=true").out


def test_nothing_is_said_of_a_finished_or_running_sweep(train: Command, here: Path) -> None:
    train("seed=1")
    assert "has the same jobs" not in train("seed=1").out
    with stopped_after(here, finished=0):
        train(seeds(Seed.ENDLESS))
    newest = sweeps_in(here)[-1]
    with Journal(newest), stopped_after(here, finished=0):
        assert "has the same jobs" not in train(seeds(Seed.ENDLESS)).out


def test_a_sweep_that_still_runs_is_refused(train: Command, here: Path) -> None:
    with stopped_after(here, finished=0):
        train(seeds(Seed.ENDLESS))
    (folder,) = sweeps_in(here)
    with Journal(folder):
        ran = train(seeds(Seed.ENDLESS), SKIP)
    assert ran.code == 2
    assert BUSY in ran.err
    assert len(sweeps_in(here)) == 1


def test_the_newest_of_several_is_gone_on_with(train: Command, here: Path) -> None:
    for _ in range(2):
        with stopped_after(here, finished=0):
            train(seeds(Seed.ENDLESS))
    first, second = sweeps_in(here)
    (second / "let-end").touch()
    os.utime(first / "sweep.json")  # copied since: what counts is when it began
    assert train(seeds(Seed.ENDLESS), SKIP).code == 0
    assert (len(began(first)), len(began(second))) == (1, 2)


def test_the_plan_shows_what_is_left(train: Command, here: Path) -> None:
    train("lora.rank=4,8")
    plan = train("lora.rank=4,8,16", SKIP, "hydra.launcher.plan_only=true")
    assert plan.code == 0
    assert "skipped: finished, same config and data: photos-rank4" in plan.out
    row = next(line for line in plan.out.splitlines() if line.startswith("pack-0"))
    assert row.split()[2] == "1", row
    assert len(sweeps_in(here)) == 1
    nothing = train("lora.rank=8", SKIP, "hydra.launcher.plan_only=true")
    assert "skipped: finished" in nothing.out
    assert "pack-0" not in nothing.out


def test_equal_points_are_taken_one_to_one(train: Command, here: Path) -> None:
    train("name=anna")
    ran = train("name=anna,berta", SKIP)
    assert ran.code == 0
    assert began(sweeps_in(here)[-1]) == [[1]], "a name decides no adapter, and there is one so far"


def test_it_works_without_m_and_where_nothing_was_trained(command: Command, here: Path) -> None:
    assert command("lora.rank=2", SKIP, sweep_dir=None).code == 0
    ran = command("lora.rank=2", SKIP, sweep_dir=None)
    assert ran.code == 0
    assert "skipped, finished with its files in place: duotone-rank2" in ran.out
    assert len(sweeps_in(here)) == 1


def test_a_sweep_whose_record_cannot_be_read_is_named_and_not_passed_over(train: Command, here: Path) -> None:
    train("lora.rank=4,8")
    broken = sweeps_in(here)[0] / "sweep.json"
    broken.write_text(broken.read_text()[:40])
    for words in ((), ("hydra.launcher.plan_only=true",)):
        ran = train("lora.rank=4", SKIP, *words)
        assert ran.code == 0
        assert f"not looked into: {broken}" in "".join(ran.out.split("\n")), ran.out


def test_sweeps_lie_below_the_constant_part_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("runs/x/1", "runs/2", "multirun/d/3", "own", "runs/a/b/deep")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "sweep.json").write_text(
            json.dumps({"id": name, "command": "", "jobs": [], "created": number})
        )
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "sweep.json").write_text("{")

    def found(pattern: str, folder: str) -> list[str]:
        return [record.id for _, record in earlier_sweeps(pattern, tmp_path / folder)]

    assert found("runs/${now:%Y}/${now:%H}-${sweep_id:}", "runs/y/z") == ["runs/a/b/deep", "runs/2", "runs/x/1"]
    assert found(f"{tmp_path}/runs/r-${{now:%H}}", "runs/r-1") == ["runs/a/b/deep", "runs/2", "runs/x/1"]
    assert found("multirun/${now:%Y}/x", "multirun/e/f") == ["multirun/d/3"]
    assert found("own", "own") == ["own", "multirun/d/3"]


def test_looking_back_over_many_sweeps_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = [
        {"job": n, "config": f"{n:064}", "name": f"n{n}", "dir": str(n), "rank": 4, "pack": "pack-0", "overrides": {}}
        for n in range(100)
    ]
    for number in range(again._LOOKED_AT + 50):
        folder = tmp_path / "multirun" / "d" / f"{number:04}"
        folder.mkdir(parents=True)
        (folder / "sweep.json").write_text(json.dumps({"id": "x", "command": "", "jobs": jobs, "created": number}))
    start = time.process_time()
    assert len(earlier_sweeps("multirun/${now:x}", tmp_path / "new")) == again._LOOKED_AT
    assert time.process_time() - start < 2.0, "0.1 s on two cores"
