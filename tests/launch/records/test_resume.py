"""What is left of a sweep, as its folder tells it: who goes on, together with whom, and who does not."""

from __future__ import annotations

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.ledger import sweep_at
from lora_foundry.launch.records.reading import read_results, read_state
from lora_foundry.launch.records.resume import find_resumed, find_unfinished, is_finished, readable_jobs
from lora_foundry.wire.journal import EndedLine
from tests.launch.farm.sweep_in_memory import SweepInMemory, Sweeps
from tests.launch.jobs import job
from tests.launch.seeds import Seed
from tests.phrases import NO_FOLDER


@pytest.fixture
def interrupted(sweep: Sweeps) -> SweepInMemory:
    """Jobs 0 and 1 ended, 2 and 3 were stopped while they trained together, 4 never began."""
    made = sweep([0, Seed.DIVERGES], [Seed.ENDLESS, Seed.DEAF], [1]).recorded()
    made.when(lambda: made.jobs[3].step > 2, made.interrupts.ask)
    made.when(lambda: made.interrupts.asked, lambda: setattr(made.interrupts, "insisted", True))
    return made.train()


@pytest.mark.slow
def test_what_was_stopped_or_never_began_goes_on_with_those_it_trained_with(interrupted: SweepInMemory) -> None:
    left = find_unfinished(interrupted.folder, failed=False)
    assert [one.index for one in left.jobs] == [2, 3, 4]
    assert left.packs == (("pack-0", (2, 3)), ("pack-2", (4,))), "the two joined the first pack"
    told = "\n".join(left.notes)
    assert "job2 (KILLED) goes on from its last checkpoint" in told
    assert "job4 (KILLED) goes on from the beginning: it has no checkpoint" in told
    assert "skipped, failed (python -m src.retry tries again): job1" in told
    assert [path.name for path in left.spools()] == ["resume-0.jsonl", "resume-1.jsonl"]


@pytest.mark.slow
def test_a_pruned_job_is_done_with_unless_its_folder_is_named(sweep: Sweeps) -> None:
    made = sweep([Seed.ENDLESS, Seed.DEAF]).recorded()

    def prune_one_and_stop() -> None:
        made.supervisor.prune(0)
        made.interrupts.ask()

    made.when(lambda: made.jobs[1].step > 2, prune_one_and_stop)
    made.train()
    left = find_unfinished(made.folder, failed=True)
    assert [one.index for one in left.jobs] == [1]
    assert "skipped, pruned (resume=<its folder> goes on with one): job0" in "\n".join(left.notes)
    assert [one.state for one in sweep_at(made.folder).jobs] == ["PRUNED", "KILLED"]
    assert [one.index for one in find_resumed(str(made.folder / "0"), None).jobs] == [0]


@pytest.mark.slow
def test_a_failed_job_is_tried_again_on_request_alone(interrupted: SweepInMemory) -> None:
    left = find_unfinished(interrupted.folder, failed=True, only={0, 1})
    assert [one.index for one in left.jobs] == [1]


@pytest.mark.slow
def test_a_finished_job_whose_adapter_is_gone_or_torn_is_not_finished(interrupted: SweepInMemory) -> None:
    (file,) = interrupted.folder.glob("0/adapter/*.safetensors")
    (result,) = (one for one in read_results(interrupted.folder) if one.job == 0)
    assert is_finished(interrupted.folder, result)
    file.write_bytes(b"torn")
    assert not is_finished(interrupted.folder, result)
    assert [one.index for one in find_unfinished(interrupted.folder, failed=False, only={0}).jobs] == [0]


@pytest.mark.slow
def test_a_job_whose_configuration_cannot_be_read_is_left_out_and_the_others_go_on(interrupted: SweepInMemory) -> None:
    (interrupted.folder / "2" / ".hydra" / "config.yaml").write_text("seed: [")
    left = find_unfinished(interrupted.folder, failed=False)
    assert [one.index for one in left.jobs] == [3, 4]
    (line,) = left.damaged
    assert line.startswith("job2: ")
    assert "or train it anew: python -m src.train" in line
    assert [one.index for one in readable_jobs(interrupted.folder)] == [0, 1, 3, 4]


@pytest.mark.slow
def test_packs_are_those_that_jobs_were_last_in(sweep: Sweeps) -> None:
    """A pack that was cut in halves goes on as its halves."""
    made = sweep([0, 1, 2, Seed.BREAKS]).recorded()
    made.when(lambda: len(made.engine.started) == 1 and "pack-0a" in made.said, made.interrupts.ask)
    left = find_unfinished(made.train().folder, failed=False)
    assert [name for name, _ in left.packs] == ["pack-0a", "pack-0b"]


@pytest.mark.slow
def test_one_job_is_found_by_its_folder(interrupted: SweepInMemory) -> None:
    found = find_resumed(str(interrupted.folder / "3"), None)
    assert [one.index for one in found.jobs] == [3]
    assert found.packs == (("pack-1", (3,)),)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "said"),
    [("9", NO_FOLDER), (".", "which holds no job; it is a sweep's folder, its jobs are 0, 1, 2, 3, 4"),
     ("4", "holds no checkpoint to continue from; train it anew: python -m src.train")],
)  # fmt: skip
def test_what_is_no_job_to_continue_is_refused(interrupted: SweepInMemory, folder: str, said: str) -> None:
    with pytest.raises(SweepError, match="resume: ") as refused:
        find_resumed(str(interrupted.folder / folder), None)
    assert said in str(refused.value)


def test_a_sweep_is_settled_once_its_launcher_told_its_end(interrupted: SweepInMemory) -> None:
    assert not read_state(interrupted.folder).settled
    with Journal(interrupted.folder) as journal:
        journal.write(EndedLine(exit_code=130))
    assert read_state(interrupted.folder).settled


def test_the_ledger_counts_deaths_and_keeps_the_steps_of_those_that_were_stopped(sweep: Sweeps) -> None:
    done = sweep([Seed.DIES_ONCE, 1], [job(seed=3)]).recorded().train()
    jobs = sweep_at(done.folder).jobs
    assert [(one.state, one.restarts) for one in jobs] == [("FINISHED", 1), ("FINISHED", 1), ("FINISHED", 0)]
    assert [one.device for one in jobs] == ["memory-0"] * 3
