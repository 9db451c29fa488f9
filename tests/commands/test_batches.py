"""A sweeper that comes with one batch after another: one farm is open over all of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lora_foundry.launch.records.journal import read_journal
from lora_foundry.wire.journal import EndedLine, SweepLine, WorkerLine
from tests.commands.ran import Command, Ran
from tests.commands.stopping import stopped_after
from tests.launch.seeds import Seed, seeds


@pytest.fixture
def batches(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """``batches("seed=0,1")`` is swept by Hydra's own basic sweeper, one job a batch."""
    own = tmp_path / "own" / "hydra" / "sweeper" / "one_by_one.yaml"
    own.parent.mkdir(parents=True)
    target = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
    own.write_text(f"# @package hydra.sweeper\n_target_: {target}\nmax_batch_size: 1\nparams: null\n")
    # It is refused to users, whom the project's own serves better; a search's sweeper is another of its kind.
    monkeypatch.setattr("lora_foundry.launch.points.driving.composed_problems", lambda _: [])

    def run(*words: str, sweep_dir: Path | None = tmp_path / "sweep") -> Ran:
        own_configs = f"--config-dir={tmp_path / 'own'}"
        return command(own_configs, *words, "hydra/sweeper=one_by_one", "-m", sweep_dir=sweep_dir)

    return run


@pytest.mark.slow
def test_four_batches_start_one_worker_and_make_one_sweep(batches: Command) -> None:
    ran = batches("lora.rank=4,8", "optimizer.lr=1e-3,2e-3")
    assert ran.code == 0, ran.err
    assert sorted(ran.states()) == [f"duotone-rank{rank}-lr{lr}" for rank in (4, 8) for lr in ("0.001", "0.002")]
    lines = read_journal(ran.sweep_dir)
    assert [line.state for line in lines if isinstance(line, WorkerLine)] == ["started", "left"]
    assert Counter(type(line) for line in lines)[SweepLine] == 4
    assert [line.exit_code for line in lines if isinstance(line, EndedLine)] == [0]
    assert ran.out.count("Best:") == 1, "one table at the end"


@pytest.mark.slow
def test_a_sweeper_that_gives_up_after_a_failure_leaves_a_sweep_that_ended(
    batches: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="not finite at step 2"):
        batches(seeds(0, Seed.DIVERGES, 1), "trainer.max_steps=5")
    lines = read_journal(tmp_path / "sweep")
    assert [line.state for line in lines if isinstance(line, WorkerLine)] == ["started", "left"]
    assert [line.exit_code for line in lines if isinstance(line, EndedLine)] == [1]
    assert "FAILED:" in capsys.readouterr().out


@pytest.mark.slow
def test_a_stop_ends_the_sweep_and_not_only_its_batch(batches: Command, tmp_path: Path) -> None:
    with stopped_after(tmp_path / "sweep", finished=1):
        ran = batches(seeds(0, Seed.ENDLESS, 1))
    assert ran.code == 130
    assert list(ran.states().values()) == ["FINISHED", "KILLED"], "the third was never offered"
    assert "Interrupted." in ran.err
    assert "Continue: " in ran.out
    lines = read_journal(ran.sweep_dir)
    assert [line.state for line in lines if isinstance(line, WorkerLine)] == ["started", "left"]
    assert [line.exit_code for line in lines if isinstance(line, EndedLine)] == [130]
