"""Whole sweeps through the command line, with a worker that trains nothing."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from lora_foundry.config.parse import parse
from lora_foundry.launch.points.check import group_options, problems_of
from lora_foundry.launch.points.spread import parsed, points_of
from lora_foundry.launch.records.journal import read_journal
from lora_foundry.search.space import space_of
from lora_foundry.wire.journal import EndedLine, JobLine, PackLine
from tests.commands.ran import Command
from tests.launch.seeds import Seed, seeds
from tests.phrases import HOLDS_A_SWEEP
from tests.root import PROJECT_ROOT


def test_three_ranks_train_in_one_pack_and_each_has_its_folder(command: Command) -> None:
    ran = command("lora.rank=4,8,16", "-m")

    assert ran.code == 0
    assert ran.states() == dict.fromkeys(["duotone-rank4", "duotone-rank8", "duotone-rank16"], "FINISHED")
    packs = [line for line in ran.commands() if line["cmd"] == "pack"]
    assert [[job["job"] for job in pack["jobs"]] for pack in packs] == [[0, 1, 2]]
    for number, rank in enumerate((4, 8, 16)):
        hydra = ran.sweep_dir / str(number) / ".hydra"
        config = parse(OmegaConf.load(hydra / "config.yaml"))
        assert (config.lora.rank, config.name) == (rank, f"duotone-rank{rank}")
        assert OmegaConf.load(hydra / "overrides.yaml")[0] == f"lora.rank={rank}"
        assert OmegaConf.load(hydra / "hydra.yaml").hydra.job.num == number
        assert (ran.sweep_dir / str(number) / "adapter" / f"duotone-rank{rank}.safetensors").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "lora.rank=4,8", "data.batch_size=1"),
        ("lora.rank=4,8", "-m", "data.batch_size=1"),
        ("lora.rank=4,8", "data.batch_size=1", "--multirun"),
    ],
)
def test_m_may_stand_anywhere(command: Command, words: tuple[str, ...]) -> None:
    ran = command(*words)
    assert ran.code == 0
    assert list(ran.states()) == ["duotone-rank4", "duotone-rank8"]


def test_a_folder_with_time_and_id_in_its_name_is_one_folder(command: Command, tmp_path: Path) -> None:
    """Every composed config resolves ``${sweep_id:}`` for itself unless the sweep's own is handed down."""
    ran = command(
        "lora.rank=4,8", "-m", "hydra.sweep.dir=" + str(tmp_path) + "/${now:%H-%M-%S}-${sweep_id:}", sweep_dir=None
    )
    assert ran.code == 0
    (sweep_dir,) = (path.parent for path in tmp_path.glob("*/sweep.json"))
    assert sorted(path.name for path in sweep_dir.iterdir() if path.is_dir() and path.name.isdigit()) == ["0", "1"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_without_m_is_a_sweep_of_one_job_and_goes_the_same_way(command: Command) -> None:
    ran = command("lora.rank=2")
    assert ran.code == 0
    assert ran.states() == {"duotone-rank2": "FINISHED"}
    assert (ran.sweep_dir / "0" / ".hydra" / "config.yaml").is_file()
    assert (ran.sweep_dir / "sweep.json").is_file()


def test_a_failing_job_fails_alone_and_the_exit_code_tells(command: Command) -> None:
    ran = command(seeds(0, Seed.DIVERGES, 1), "-m")
    assert ran.code == 1
    assert ran.states() == {
        "duotone-rank8-seed0": "FINISHED",
        "duotone-rank8-seed13": "FAILED",
        "duotone-rank8-seed1": "FINISHED",
    }
    assert ran.results()[1]["error"] == "the loss is not finite at step 2"
    told = ran.out.index("duotone-rank8-seed13 FAILED: the loss is not finite at step 2")
    assert told < ran.out.index("duotone-rank8-seed0 finished"), "a failure is shown when it happens"


def test_a_dying_worker_fails_its_pack_only_and_the_next_pack_gets_a_fresh_one(command: Command) -> None:
    ran = command(seeds(0, Seed.DIES, 1), "-m", "hydra.launcher.pack_size=1", "hydra.launcher.max_restarts=0")
    assert ran.code == 1
    assert list(ran.states().values()) == ["FINISHED", "FAILED", "FINISHED"]
    assert "SIGKILL" in ran.results()[1]["error"]
    assert "RuntimeError: the fake worker fell over" in ran.out, "the tail of its log is shown"
    assert f"Continue: python -m src.retry {ran.sweep_dir}\n" in ran.out, "its checkpoints are not lost"
    first, second, third = (line["pid"] for line in ran.commands() if line["cmd"] == "pack")
    assert first == second, "the base stays warm between packs"
    assert third != second


def test_pack_mates_that_finished_before_the_worker_died_stay_finished(command: Command) -> None:
    ran = command(seeds(0, Seed.DIVERGES, Seed.DIES), "-m", "hydra.launcher.max_restarts=0")
    assert list(ran.states().values()) == ["FAILED", "FAILED", "FAILED"]
    assert ran.results()[1]["error"] == "the loss is not finite at step 2", "its own end, not the worker's"


def test_a_pack_that_ends_without_a_word_about_a_job_fails_that_job(command: Command) -> None:
    ran = command(seeds(0, Seed.ENDS_UNSAID), "-m")
    assert ran.code == 1
    assert list(ran.states().values()) == ["FINISHED", "FAILED"]
    assert "without a result" in ran.results()[1]["error"]


def test_a_finished_job_stays_finished_whatever_is_said_of_it_later(command: Command) -> None:
    ran = command(seeds(Seed.FAILS_LATE))
    assert (ran.code, ran.results()[0]["state"], ran.results()[0]["error"]) == (0, "FINISHED", None)


def test_a_worker_that_cannot_start_fails_its_jobs_with_the_command(command: Command) -> None:
    ran = command("hydra.launcher.worker_command=[/nowhere/python]")
    assert ran.code == 1
    assert "could not be started: [Errno 2] No such file or directory: '/nowhere/python'" in ran.results()[0]["error"]


def test_pack_size_is_honoured(command: Command) -> None:
    ran = command("lora.rank=1,2,3,4,5", "-m", "hydra.launcher.pack_size=2")
    assert [len(line["jobs"]) for line in ran.commands() if line["cmd"] == "pack"] == [2, 2, 1]
    assert "hydra.launcher.pack_size=2" in ran.out


def test_sweep_syntax_of_hydra_works(command: Command) -> None:
    ran = command("lora.rank=choice(4)", "seed=range(0,3,2)", "data=glob(emoji-*)", "-m")
    assert ran.code == 0
    assert sorted(ran.states()) == sorted(f"{data}-rank4-seed{seed}" for data in ("duotone", "flat") for seed in (0, 2))


def test_a_named_sweep_needs_no_m_and_the_command_line_comes_after_it(command: Command) -> None:
    ran = command("sweep=rank_batch", "lora.rank=4")
    assert ran.code == 0
    assert sorted(ran.states()) == [f"duotone-rank4-batch{b}" for b in (1, 2, 4)]


@pytest.mark.parametrize("file", sorted((PROJECT_ROOT / "sweeps" / "sweep").glob("*.yaml")), ids=lambda file: file.stem)
def test_each_named_sweep_composes_and_says_command_cost_and_expectation(file: Path) -> None:
    params = OmegaConf.load(file).hydra.sweeper.params
    words = [f"{key}={value}" for key, value in params.items()]
    assert problems_of(words, group_options(), sweeping=True) == []
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        if "sampler" in OmegaConf.load(file).hydra.sweeper:
            space = space_of(parsed(loader, params, []), {})
            points = [space.words(probe) for probe in space.probes()]
        else:
            points = points_of(loader, params, [])
        for words in points:
            parse(compose("train", overrides=words))
    assert len(points) > 1
    comment = "\n".join(line for line in file.read_text().splitlines() if line.startswith("#"))
    for word in (f"python -m src.train sweep={file.stem}", "Cost:", "Expected:"):
        assert word in comment


def test_two_sweeps_started_in_one_second_have_their_own_folders(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hydra.core.utils.datetime", SimpleNamespace(now=lambda: datetime(2026, 11, 22, 17, 5, 33)))
    for _ in range(2):
        assert command("sample=none", sweep_dir=None).code == 0
    folders = [path.parent for path in (tmp_path / "multirun").glob("*/*/sweep.json")]
    assert len(folders) == 2
    assert all(re.fullmatch(r"17-05-33-[0-9a-f]{6}", folder.name) for folder in folders)
    for folder in folders:
        assert json.loads((folder / "sweep.json").read_text())["id"].endswith(folder.name[-6:])


def test_a_folder_that_holds_a_sweep_is_not_written_over(command: Command) -> None:
    assert command("lora.rank=4").code == 0
    again = command("lora.rank=8")
    assert again.code == 2
    assert HOLDS_A_SWEEP in again.err
    assert again.states() == {"duotone-rank4": "FINISHED"}


def test_subdir_is_honoured_and_may_not_be_shared(command: Command) -> None:
    ran = command("seed=0,1", "-m", "hydra.sweep.subdir=job-${hydra.job.num}")
    assert ran.code == 0
    assert (ran.sweep_dir / "job-1" / ".hydra" / "config.yaml").is_file()

    shared = command("seed=0,1", "-m", "hydra.sweep.subdir=all", sweep_dir=ran.sweep_dir.with_name("other"))
    assert shared.code == 2
    assert "one folder" in shared.err


def test_the_table_marks_the_best_and_prints_paths_whole(command: Command) -> None:
    ran = command("lora.rank=4,8", "-m")
    assert "duotone-rank4 *" in ran.out
    assert "duotone-rank8 *" not in ran.out
    for number, rank in enumerate((4, 8)):
        assert f"{ran.sweep_dir}/{number}/adapter/duotone-rank{rank}.safetensors\n" in ran.out


def test_the_journal_tells_the_plan_and_every_end(command: Command) -> None:
    ran = command(seeds(0, Seed.DIVERGES), "-m")
    lines = read_journal(ran.sweep_dir)
    assert [(line.job, line.state) for line in lines if isinstance(line, JobLine)] == [
        (0, "RUNNING"),
        (1, "RUNNING"),
        (1, "FAILED"),
        (0, "FINISHED"),
    ]
    assert [line.jobs for line in lines if isinstance(line, PackLine)] == [(0, 1)]
    assert isinstance(lines[-1], EndedLine)
    assert lines[-1].exit_code == 1


def test_a_shared_name_is_made_unique_with_a_note(command: Command) -> None:
    ran = command("name=anna", "lora.rank=4,8", "-m")
    assert list(ran.states()) == ["anna-rank4", "anna-rank8"]
    assert "name=anna is shared" in ran.out
