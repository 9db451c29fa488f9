"""Places that become free in a pack, and packs that turn out to be too large."""

from __future__ import annotations

from lora_foundry.launch.records.journal import read_journal
from lora_foundry.wire.journal import BeganLine, GainLine, PackLine
from tests.commands.ran import Command, Ran
from tests.commands.test_train_restarts import packs_sent, told
from tests.launch.seeds import Seed, seeds
from tests.phrases import NO_GAIN

LENGTHS = ("trainer.max_steps=4,20,49", "scheduler.warmup_steps=1", "data.batch_size=1")


def joins(ran: Ran) -> list[tuple[str, list[int]]]:
    return [(c["pack"], [job["job"] for job in c["jobs"]]) for c in ran.commands() if c["cmd"] == "join"]


def last_packs(ran: Ran) -> dict[int, str]:
    found: dict[int, str] = {}
    for line in read_journal(ran.sweep_dir):
        if isinstance(line, PackLine):
            found |= dict.fromkeys(line.jobs, line.pack)
    return found


def test_a_free_place_goes_to_the_next_job_that_waits(command: Command) -> None:
    ran = command(*LENGTHS, "lora.rank=4,8", "-m", "hydra.launcher.pack_size=3")
    assert ran.code == 0, ran.out
    sent = packs_sent(ran)
    late = [job for _, jobs in joins(ran) for job in jobs]
    assert late, "nobody joined"
    assert all(pack == "pack-0" for pack, _ in joins(ran))
    assert sorted([*late, *(job for _, jobs in sent for job in jobs)]) == list(range(6)), "each job was sent once"
    for job in late:
        assert last_packs(ran)[job] == "pack-0", "a resume begins it with the pack that it joined"
    began = {job for line in told(ran, BeganLine) for job in line.jobs}
    assert began == set(range(6))
    assert " join" in ran.out


def test_what_gains_nothing_is_trained_apart_and_so_is_all_that_waits(command: Command) -> None:
    ran = command(seeds(Seed.GAINS_NOTHING, 0), "lora.rank=1,2,3,4,5,6", "-m", "data.batch_size=1")
    assert ran.code == 0, ran.out
    assert set(ran.states().values()) == {"FINISHED"}
    gains = told(ran, GainLine)  # of one pack, or of both where their workers were ready at the same moment
    assert {(gain.members, gain.chosen) for gain in gains} == {(6, 1)}
    assert NO_GAIN in " ".join(ran.out.split())
    sent = packs_sent(ran)
    assert all(len(jobs) == 1 for _, jobs in sent[len(gains) :]), sent
    assert len({name for name, _ in sent}) == len(sent), "each pack has a spool of its own"
    assert joins(ran) == []
