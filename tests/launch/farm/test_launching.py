"""The contract with Hydra: one JobReturn for each override list, in order, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobStatus

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.farm.launching import JobFailedError, Launching
from lora_foundry.launch.farm.outcome import INTERRUPTED, OUTCOME
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.wire.outcomes import JobOutcome
from tests.launch.seeds import Seed, seeds
from tests.launch.start_fake_worker import COMMAND
from tests.root import PROJECT_ROOT


@pytest.fixture
def seen() -> list[list[JobOutcome]]:
    return []


@pytest.fixture
def launching(tmp_path: Path, seen: list[list[JobOutcome]]) -> Iterator[Launching]:
    def finish(_: Path, outcomes: list[JobOutcome]) -> None:
        seen.append(outcomes)

    OUTCOME.exit_code = 0
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        words = [f"hydra.sweep.dir={tmp_path}/s", "hydra.job.name=train"]
        master = compose("train", overrides=words, return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        made = Launching(loader, master, Settings(worker_command=COMMAND), Outside(finish=finish))
        yield made
        made.end()


@pytest.mark.slow
def test_each_override_list_gets_its_return_in_order_and_none_raises(launching: Launching, seen: list) -> None:
    batch = [[seeds(Seed.DIVERGES)], ["seed=-1"], ["seed=2"]]
    returns = launching.train([[*words, "tracking=none"] for words in batch], 0, last=True)
    assert [ret.overrides[0] for ret in returns if ret.overrides] == [seeds(Seed.DIVERGES), "seed=-1", "seed=2"]
    assert [ret.status for ret in returns] == [JobStatus.FAILED, JobStatus.FAILED, JobStatus.COMPLETED]
    assert returns[2].return_value == pytest.approx(0.88), "what adapters are compared by, for sweepers that search"
    with pytest.raises(JobFailedError, match="not finite at step 2"):
        _ = returns[0].return_value
    with pytest.raises(SweepError, match="seed: got -1"):
        _ = returns[1].return_value
    assert returns[0].cfg is not None
    assert returns[0].cfg.seed == Seed.DIVERGES
    assert returns[0].hydra_cfg is not None
    assert returns[0].hydra_cfg.hydra.job.num == 0
    assert OUTCOME.exit_code == 1
    assert [[outcome.job for outcome in outcomes] for outcomes in seen] == [[0, 2]]


@pytest.mark.slow
def test_a_second_batch_joins_the_same_sweep_with_names_and_packs_of_its_own(
    launching: Launching, seen: list, tmp_path: Path
) -> None:
    launching.train([["lora.rank=4", "tracking=none"]], 0)
    launching.train([["lora.rank=4", "tracking=none"], ["lora.rank=8", "tracking=none"]], 1)
    assert seen == [], "the picture is of the whole sweep"
    launching.end()
    assert [(one.job, one.name, one.state) for one in seen[-1]] == [
        (0, "duotone-rank4", "FINISHED"),
        (1, "duotone-rank4-2", "FINISHED"),
        (2, "duotone-rank8", "FINISHED"),
    ]
    assert sorted(path.name for path in (tmp_path / "s" / "spool").iterdir()) == ["pack-0.jsonl", "pack-1.jsonl"]


@pytest.mark.slow
def test_checking_creates_nothing_and_names_each_broken_point(launching: Launching, tmp_path: Path) -> None:
    with pytest.raises(SweepError) as error:
        launching.check([["lora.rank=0"], ["lora.rank=4"], ["lora.dropout=2"], ["lora.rank=4", "optimizer.lr=fast"]], 0)
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "point 0 (lora.rank=0)",
        "point 2 (lora.dropout=2)",
        "point 3 (lora.rank=4 optimizer.lr=fast)",
    ]
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_what_was_checked_is_not_composed_again(launching: Launching, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [["lora.rank=4", "tracking=none"]]
    launching.check(batch, 0)
    monkeypatch.setattr("lora_foundry.launch.farm.launching.compose_points", lambda *_: pytest.fail("composed twice"))
    assert [ret.status for ret in launching.train(batch, 0)] == [JobStatus.COMPLETED]


@pytest.mark.slow
def test_skipped_points_have_returns_too_in_order_with_their_stored_loss(launching: Launching, seen: list) -> None:
    batch = [
        ["lora.rank=4", "tracking=none"],
        [seeds(Seed.DIVERGES), "tracking=none"],
        ["lora.rank=8", "tracking=none"],
    ]
    launching.train(batch, 0, last=True)
    settings = Settings(worker_command=COMMAND, skip_finished=True)
    again = Launching(launching._loader, launching._master, settings, Outside(finish=lambda *_: None))
    turned = [batch[2], batch[0], batch[1]]
    again.check(turned, 0)
    returns = again.train(turned, 0)
    assert [ret.overrides[0] for ret in returns if ret.overrides] == [
        "lora.rank=8",
        "lora.rank=4",
        seeds(Seed.DIVERGES),
    ]
    assert [ret.status for ret in returns] == [JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.FAILED]
    assert [ret.return_value for ret in returns[:2]] == [pytest.approx(0.88), pytest.approx(0.84)]
    with pytest.raises(JobFailedError, match="not finite at step 2"):
        _ = returns[2].return_value
    assert len(seen) == 1, "nothing was trained again"


@pytest.mark.slow
def test_an_interrupt_of_the_sweeper_between_two_batches_is_one_of_the_sweep(
    launching: Launching, seen: list, capsys: pytest.CaptureFixture[str]
) -> None:
    launching.train([["lora.rank=4", "tracking=none"]], 0)
    launching.ending(KeyboardInterrupt)
    assert OUTCOME.exit_code == INTERRUPTED
    assert [[one.state for one in outcomes] for outcomes in seen] == [["FINISHED"]]
    assert "Adapters:" in capsys.readouterr().out, "the table is there all the same"
    with pytest.raises(KeyboardInterrupt):
        launching.train([["lora.rank=8", "tracking=none"]], 1)
