"""Names are unique and tell what is swept."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.launch.names import name_jobs
from tests.launch.jobs import job


@pytest.mark.parametrize(
    ("key", "values", "names"),
    [
        ("lora.rank", [4, 16], ["duotone-rank4", "duotone-rank16"]),
        ("data.batch_size", [1, 2], ["duotone-rank8-batch1", "duotone-rank8-batch2"]),
        ("optimizer.lr", [0.002, 1e-5], ["duotone-rank8-lr0.002", "duotone-rank8-lr1e-05"]),
        ("seed", [0, 3], ["duotone-rank8-seed0", "duotone-rank8-seed3"]),
        ("lora.use_rslora", [True, False], ["duotone-rank8-rslora", "duotone-rank8-no-rslora"]),
        (
            "lora.target_modules",
            ["attention", ("to_q", "to_v")],
            ["duotone-rank8-attention", "duotone-rank8-to_q-to_v"],
        ),
        ("objective.snr_gamma", [None, 5.0], ["duotone-rank8-snrnone", "duotone-rank8-snr5"]),
        ("trainer.precision", ["32-true", "bf16-mixed"], ["duotone-rank8-32-true", "duotone-rank8-bf16-mixed"]),
        ("lora.alpha", [4.0, 8.0], ["duotone-rank8-alpha4", "duotone-rank8-alpha8"]),
    ],
)
def test_what_is_swept_is_told(key: str, values: list, names: list[str]) -> None:
    jobs = [job(**{key.replace(".", "__"): value}) for value in values]
    given = [{key: "null" if value is None else str(value)} for value in values]
    expected = tuple(name.replace("snrnone", "snrnull") for name in names)
    assert name_jobs(jobs, given).names == expected


def test_group_choices_are_told_by_their_name() -> None:
    jobs = [job(optimizer__name="adamw"), job(optimizer__name="prodigy", optimizer__lr=1.0)]
    named = name_jobs(jobs, [{"optimizer": "adamw"}, {"optimizer": "prodigy"}])
    assert named.names == ("duotone-rank8-adamw", "duotone-rank8-prodigy")


def test_what_is_the_same_for_all_is_not_told() -> None:
    named = name_jobs([job(lora__rank=4), job()], [{"lora.rank": "4", "seed": "7"}, {"lora.rank": "8", "seed": "7"}])
    assert named.names == ("duotone-rank4", "duotone-rank8")


def test_a_given_name_is_kept_alone_and_lengthened_with_a_note_when_shared() -> None:
    assert name_jobs([job(name="anna")], [{"name": "anna"}]).names == ("anna",)
    jobs = [job(name="anna", lora__rank=rank) for rank in (4, 8)]
    named = name_jobs(jobs, [{"name": "anna", "lora.rank": str(rank)} for rank in (4, 8)])
    assert named.names == ("anna-rank4", "anna-rank8")
    assert all("name=anna is shared" in note for note in named.notes)
    assert len(named.notes) == 2


def test_equal_jobs_and_names_that_differ_in_case_only_are_numbered() -> None:
    assert name_jobs([job(), job()], [{"seed": "0"}, {"seed": "0"}]).names == ("duotone-rank8", "duotone-rank8-2")
    named = name_jobs([job(name="Anna"), job(name="anna")], [{"name": "Anna"}, {"name": "anna"}])
    assert named.names == ("Anna", "anna-2"), "file systems without case exist"


def test_names_of_earlier_jobs_of_the_sweep_are_taken() -> None:
    assert name_jobs([job()], [{}], taken=["duotone-rank8"]).names == ("duotone-rank8-2",)


@given(st.lists(st.tuples(st.sampled_from([1, 4]), st.integers(0, 2), st.text(max_size=200)), min_size=1, max_size=8))
def test_names_are_unique_and_fit_for_files_whatever_is_swept(points: list[tuple[int, int, str]]) -> None:
    jobs = [job(lora__rank=rank, seed=seed, data__path=path or "x") for rank, seed, path in points]
    given_words = [{"lora.rank": str(r), "seed": str(s), "data.path": p} for r, s, p in points]
    names = name_jobs(jobs, given_words).names
    assert len({name.lower() for name in names}) == len(points)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        assert len(name) <= 90
