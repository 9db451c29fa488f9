"""Several files at once that speak of a whole sweep: combined, or refused; and points that are equal: warned of."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from lora_foundry.launch.points.offline import compose_all
from tests.commands.ran import Command


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of configs with experiments of one's own."""
    folder = tmp_path / "own"
    texts = {
        "plain": "seed: 3\n",
        "other": "trainer: {max_steps: 5}\n",
        "sweeps": "hydra: {mode: MULTIRUN, launcher: {pack_size: 1}, sweeper: {params: {seed: '0,1'}}}\n",
        "nested": "defaults: [sweeps]\n",
        "sd15": "defaults: [{override /model: sd15}]\n",
        "tiny": "defaults: [{override /model: tiny-sd}]\n",
    }
    (folder / "experiment").mkdir(parents=True)
    for name, text in texts.items():
        (folder / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}")
    return folder


def test_a_list_of_named_sweeps_is_their_product(command: Command) -> None:
    ran = command("sweep=[rank,seeds]", "seed=0,1")
    assert ran.code == 0
    assert sorted(ran.states()) == sorted(f"duotone-rank{rank}-seed{seed}" for rank in (4, 8, 16) for seed in (0, 1))
    assert {row["overrides"].get("data.batch_size") for row in ran.results().values()} == {"2"}


@pytest.mark.parametrize("word", ["sweep=rank,seeds", "sweep=choice(rank,seeds)", "sweep=glob([rank,seeds])"])
def test_swept_sweeps_are_refused_with_the_list_to_write(command: Command, word: str) -> None:
    ran = command(word, "-m")
    assert ran.code == 2
    (line,) = ran.err.splitlines()[1:]
    assert "sweep=rank,seeds: what is said there of hydra.sweeper.params holds for a whole sweep" in line
    assert "write sweep=[rank,seeds] to have all of it in one sweep" in line
    assert not ran.sweep_dir.exists()


@pytest.mark.parametrize("second", ["sweeps", "nested"])
def test_swept_experiments_of_which_one_speaks_of_the_sweep_are_refused(
    command: Command, own: Path, second: str
) -> None:
    ran = command("--config-dir", str(own), f"experiment=plain,{second}", "-m")
    assert ran.code == 2
    assert f"point 1 (experiment={second}" in ran.err
    assert "hydra.launcher.pack_size, hydra.sweeper.params" in ran.err
    assert f"write experiment=[plain,{second}]" in ran.err
    assert not ran.sweep_dir.exists()


def test_each_alone_and_their_list_work(command: Command, own: Path, tmp_path: Path) -> None:
    ran = command("--config-dir", str(own), "experiment=sweeps", sweep_dir=tmp_path / "one")
    assert ran.code == 0
    assert [len(line["jobs"]) for line in ran.commands() if line["cmd"] == "pack"] == [1, 1]
    ran = command("--config-dir", str(own), "experiment=[other,sweeps]", sweep_dir=tmp_path / "two")
    assert (ran.code, len(ran.states())) == (0, 2)
    ran = command("--config-dir", str(own), "experiment=plain,other", "-m", sweep_dir=tmp_path / "three")
    assert (ran.code, len(ran.states())) == (0, 2), "neither speaks of the sweep"


def test_a_sweeps_file_allows_lists_beside_it_and_a_plain_one_does_not(command: Command, own: Path) -> None:
    assert command("--config-dir", str(own), "experiment=sweeps", "lora.rank=4,8").code == 0
    ran = command("--config-dir", str(own), "experiment=plain", "lora.rank=4,8")
    assert ran.code == 2
    assert "lora.rank=4,8: several values without -m" in ran.err


def test_two_sweeps_of_one_key_are_refused_unless_the_command_line_decides(command: Command) -> None:
    ran = command("sweep=[rank_batch,seeds]")
    assert ran.code == 2
    assert "data.batch_size is 1,2,4 in rank_batch and 2 in seeds; give data.batch_size=... beside it" in ran.err
    assert not ran.sweep_dir.exists()
    assert command("sweep=[rank_batch,seeds]", "data.batch_size=1", "seed=0").code == 0


def test_two_choices_of_one_group_are_refused_unless_the_command_line_decides(command: Command, own: Path) -> None:
    ran = command("--config-dir", str(own), "experiment=[sd15,tiny]")
    assert ran.code == 2
    assert "experiment/sd15: override /model: sd15 is passed over, since tiny-sd is chosen elsewhere" in ran.err
    assert command("--config-dir", str(own), "experiment=[sd15,tiny]", "model=tiny-sd").code == 0


def test_options_of_ones_own_may_be_swept_by_a_named_sweep(command: Command, own: Path) -> None:
    (own / "trainer").mkdir()
    (own / "trainer" / "short.yaml").write_text("defaults: [default]\nmax_steps: 3\n")
    text = "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {trainer: 'default,short'}}}\n"
    (own / "experiment" / "trainers.yaml").write_text(text)
    ran = command("--config-dir", str(own), "experiment=trainers")
    assert (ran.code, len(ran.states())) == (0, 2), ran.err


def test_predicting_a_named_sweep_predicts_its_points() -> None:
    assert [point.config.lora.rank for point in compose_all(["sweep=rank"])] == [4, 8, 16]


def test_equal_points_are_warned_of_in_the_plan_at_the_start_and_on_their_runs(
    command: Command, tmp_path: Path
) -> None:
    words = ("seed=0,1,0", "-m", f"tracking.root={tmp_path}/ml")
    said = "points 0, 2 are equal and train equal adapters; leave all but one out"
    plan = command(*words, "hydra.launcher.plan_only=true")
    assert (plan.code, plan.out.count(said)) == (0, 1)
    ran = command(*words)
    assert ran.code == 0
    assert ran.out.count(said) == 1
    store = MlflowClient(f"sqlite:///{tmp_path}/ml/mlflow.db")
    runs = store.search_runs([found.experiment_id for found in store.search_experiments()])
    tagged = sorted(run.data.tags["name"] for run in runs if "warning.equal-points" in run.data.tags)
    assert tagged == ["duotone-rank8-seed0", "duotone-rank8-seed0-2"]


@pytest.mark.parametrize("words", [("seed=0,1",), ("lora.rank=4,8",), ("lora.alpha=null,8,0.5x",), ("name=a,b",)])
def test_only_equal_points_are(command: Command, words: tuple[str, ...]) -> None:
    ran = command(*words, "-m", "hydra.launcher.plan_only=true")
    assert ("are equal" in ran.out) == (words[0][:5] in ("lora.", "name=") and "rank" not in words[0])
