"""Places that become free in a pack, and packs that turn out to be too large."""

from __future__ import annotations

from src.launch.records.journal import read_journal
from tests.commands.ran import Command, Ran
from tests.commands.test_train_restarts import QUICK, events, packs_sent

LENGTHS = ("trainer.max_steps=4,20,49", "scheduler.warmup_steps=1", "data.batch_size=1")


def joins(ran: Ran) -> list[tuple[str, list[int]]]:
    return [(c["pack"], [job["job"] for job in c["jobs"]]) for c in ran.commands() if c["cmd"] == "join"]


def last_packs(ran: Ran) -> dict[int, str]:
    found: dict[int, str] = {}
    for line in read_journal(ran.sweep_dir):
        if line["event"] == "pack":
            found |= dict.fromkeys(line["jobs"], line["pack"])
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
    began = {job for event in events(ran, "began") for job in event["jobs"]}
    assert began == set(range(6))
    assert " join" in ran.out


def test_jobs_of_another_base_or_resolution_do_not_join(command: Command) -> None:
    ran = command(
        "trainer.max_steps=4,40",
        "scheduler.warmup_steps=1",
        "data.resolution=64,32",
        "-m",
        "hydra.launcher.pack_size=2",
    )
    assert ran.code == 0, ran.out
    assert joins(ran) == []


def test_a_pack_that_has_no_room_leaves_them_to_a_pack_of_their_own(command: Command) -> None:
    ran = command("seed=32", *LENGTHS, "-m", "hydra.launcher.pack_size=2")
    assert ran.code == 0, ran.out
    assert "no room for" in ran.out
    assert set(ran.states().values()) == {"FINISHED"}


def test_what_gains_nothing_is_trained_apart_and_so_is_all_that_waits(command: Command) -> None:
    ran = command("seed=31,0", "lora.rank=1,2,3,4,5,6", "-m", "data.batch_size=1")
    assert ran.code == 0, ran.out
    assert set(ran.states().values()) == {"FINISHED"}
    (told,) = events(ran, "gain")
    assert (told["members"], told["chosen"]) == (6, 1)
    assert "packing more does not pay here" in " ".join(ran.out.split())
    sent = packs_sent(ran)
    assert all(len(jobs) == 1 for _, jobs in sent[1:]), sent
    assert len({name for name, _ in sent}) == len(sent), "each pack has a spool of its own"
    assert joins(ran) == []


def test_nothing_is_tried_where_the_user_has_said_how_many(command: Command) -> None:
    ran = command("seed=31,0", "-m", "hydra.launcher.pack_size=2")
    assert ran.code == 0, ran.out
    assert {c["least_gain"] for c in ran.commands() if c["cmd"] == "pack"} == {None}


def test_a_death_takes_those_that_joined_along_and_all_go_on(command: Command) -> None:
    ran = command("seed=67,1", *LENGTHS, "-m", QUICK, "hydra.launcher.pack_size=4")
    assert ran.code == 0, ran.out
    assert set(ran.states().values()) == {"FINISHED"}
