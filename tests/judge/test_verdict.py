"""Which adapter to keep, in a sentence: the same wherever somebody looks."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_foundry.judge.intervals import compare
from lora_foundry.judge.settings import settings_of
from lora_foundry.judge.verdict import sentence, spreads, verdict_of
from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wire.verdict import read_verdict, write_verdict
from tests.judge.outcomes import outcome

NEAR = (0.21, 0.30, 0.25, 0.19, 0.33, 0.27, 0.24, 0.22)
NUMBER = r"-?\d+(\.\d+)?"


def _worse(by: float, *, jitter: float = 0.0) -> list[float]:
    draw = np.random.default_rng(3)
    return [one * (1 + by + jitter * draw.standard_normal()) for one in NEAR]


def test_a_winner_is_told_with_its_interval_over_the_next() -> None:
    told = verdict_of([outcome(0, _worse(0.4)), outcome(1, list(NEAR)), outcome(2, _worse(0.1, jitter=0.02))])
    assert told is not None
    assert (told.job, told.name, told.file, told.sure) == (1, "n1", "1/adapter/n1.safetensors", True)
    assert re.fullmatch(rf"keep n1: -{NUMBER} % \[-{NUMBER}, -{NUMBER}\] against n2", told.sentence)
    assert [one.name for one in told.against] == ["n2", "n0"], "the nearest first"
    assert told.against[0].low < told.against[0].percent < told.against[0].high < 0
    assert (told.count, told.of) == (8, "images")


def test_what_was_judged_is_called_as_the_task_calls_it() -> None:
    jobs = [outcome(0, _worse(0.03, jitter=0.05)), outcome(1, list(NEAR))]
    told = verdict_of([replace(one, by_item=replace(one.by_item, called="chats")) for one in jobs if one.by_item])
    assert told is not None
    assert told.of == "chats"
    assert told.sentence.startswith("no difference that 8 chats can show")


def test_the_file_is_the_one_whose_loss_was_compared() -> None:
    best = outcome(1, list(NEAR))
    assert best.summary is not None
    kept = replace(best, summary=replace(best.summary, best_file="1/adapter/kept.safetensors"))
    told = verdict_of([outcome(0, _worse(0.4)), kept])
    assert told is not None
    assert told.file == "1/adapter/kept.safetensors"


def test_where_images_are_too_few_it_says_how_many_would_do() -> None:
    told = verdict_of([outcome(0, _worse(0.03, jitter=0.05)), outcome(1, list(NEAR)), outcome(2, _worse(0.5))])
    assert told is not None
    assert not told.sure
    said = re.fullmatch(r"no difference that 8 images can show between n1 and n0; about ([\d,]+) would", told.sentence)
    assert said
    assert int(said[1].replace(",", "")) > 8


def test_it_says_how_many_more_are_tied_and_where_no_number_would_do() -> None:
    same = [outcome(number, list(NEAR)) for number in range(3)]
    told = verdict_of(same)
    assert told is not None
    assert told.sentence == "no difference that 8 images can show between n0 and n1 or 1 other; no number would"


def test_jobs_that_were_judged_on_other_rows_are_not_paired() -> None:
    told = verdict_of([outcome(0, list(NEAR)), outcome(1, _worse(0.4)), outcome(2, _worse(0.2), rows="other")])
    assert told is not None
    assert [one.name for one in told.against] == ["n1"]
    alone = verdict_of([outcome(0, list(NEAR)), outcome(2, _worse(0.2), rows="other")])
    assert alone is not None
    assert alone.sentence.endswith("since no other was judged on the same rows")


def test_of_sweeps_made_before_the_best_is_told_and_that_no_more_is_known() -> None:
    told = verdict_of([outcome(0, 0.25), outcome(1, 0.24), outcome(2, None, state="FAILED")])
    assert told is not None
    assert (told.job, told.sure, told.count, told.against) == (1, False, None, ())
    assert told.sentence.startswith("n1 has the lowest loss")
    assert told.sentence.endswith("since losses item by item were not kept")


@pytest.mark.parametrize("state", ["FAILED", "KILLED", "PRUNED"])
def test_a_job_that_did_not_finish_is_not_judged(state: str) -> None:
    lower = replace(outcome(1, _worse(-0.5)), state=state)
    told = verdict_of([outcome(0, list(NEAR)), lower])
    assert told is not None
    assert told.sentence == "keep n0: no other has finished"


def test_of_one_job_or_of_none_that_finished_nothing_is_said() -> None:
    assert verdict_of([outcome(0, list(NEAR))]) is None
    assert verdict_of([outcome(0, None), outcome(1, None)]) is None
    assert verdict_of([]) is None


@pytest.mark.parametrize(
    ("percents", "said"),
    [
        ((-1.234, 0.4), "-1.2 % [-1.6, -0.8]"),
        ((-21.3, 8), "-21 % [-29, -13]"),
        ((-0.056, 0.01), "-0.06 % [-0.07, -0.05]"),
        ((-1.02, 0.98), "-1.0 % [-2.0, -0.04]"),
        ((-1.002, 0.998), "-1.0 % [-2.0, 0.0]"),
        ((-8.2, 8.6), "-8 % [-17, 0.4]"),
    ],
)
def test_percents_have_the_digits_that_their_interval_deserves(percents: tuple[float, float], said: str) -> None:
    found = compare(np.array([[1.0, 2.0], [1.1, 2.3], [1.0, 2.1]]))
    assert found is not None
    middle, half = percents
    one = replace(found.against[1], percent=middle, low=middle - half, high=middle + half)
    told = sentence(replace(found, against=(found.against[0], one), tied=()), ["a", "b"], "images", None)
    assert told == f"keep a: {said} against b"


def _repeats(*points: tuple[str, list[float]], seeds: str = "012") -> list:
    return [
        outcome(
            number * len(seeds) + place,
            score,
            name=f"rank{rank}-seed{seed}",
            overrides={"lora.rank": rank, "seed": seed, "data": "flat"},
        )
        for number, (rank, scores) in enumerate(points)
        for place, (seed, score) in enumerate(zip(seeds, scores, strict=True))
    ]


def test_with_several_seeds_it_speaks_of_settings_and_keeps_the_best_file_of_the_best_one() -> None:
    """The luckiest file is of rank 8, and rank 4 is the better setting."""
    jobs = _repeats(("4", [0.300, 0.302, 0.301]), ("8", [0.400, 0.290, 0.380]), ("16", [0.500, 0.502, 0.501]))
    told = verdict_of(jobs)
    assert told is not None
    assert (told.name, told.of, told.count) == ("rank4-seed0", "seeds", 3)
    assert told.sentence.startswith("no difference that 3 seeds can show between rank=4 and rank=8")
    sure = verdict_of([one for one in jobs if one.overrides["lora.rank"] != "8"])
    assert sure is not None
    assert re.fullmatch(r"keep rank=4: -39\.9 % \[-40\.\d, -39\.\d\] against rank=16 over 3 seeds", sure.sentence)


def test_settings_have_their_mean_and_spread() -> None:
    one, other = spreads(_repeats(("4", [0.1, 0.2, 0.3]), ("8", [0.2, 0.2, 0.2])))
    assert (one.name, one.mean, one.spread) == ("rank=4", pytest.approx(0.2), pytest.approx(0.1))
    assert (other.name, other.spread) == ("rank=8", 0.0)


def test_no_settings_are_compared_where_seeds_differ_or_one_is_missing() -> None:
    jobs = _repeats(("4", [0.1, 0.2, 0.3]), ("8", [0.2, 0.2, 0.2]))
    assert settings_of(jobs[:-1]) == ()
    assert settings_of(_repeats(("4", [0.1]), ("8", [0.2]), seeds="0")) == ()
    assert settings_of(_repeats(("4", [0.1, 0.2, 0.3]))) == (), "one point has nothing to be compared with"
    assert settings_of([*jobs, replace(jobs[0], job=9)]) == (), "no seed tells these two apart"


def test_what_is_written_is_read_again_and_an_old_one_goes(tmp_path: Path) -> None:
    told = verdict_of([outcome(0, _worse(0.4)), outcome(1, list(NEAR))])
    write_verdict(tmp_path, told)
    assert read_verdict(tmp_path) == told
    write_verdict(tmp_path, None)
    assert read_verdict(tmp_path) is None


FOLDS = (("a", "b"), ("c", "d"), ("e",))
LOSSES = {"a": 0.10, "b": 0.30, "c": 0.20, "d": 0.40, "e": 0.15}
BASE = {"a": 0.20, "b": 0.35, "c": 0.50, "d": 0.45, "e": 0.25}


def _folded(rank: str, first: int, by: float = 1.0, *, rows: str = "") -> list[JobOutcome]:
    """A setting's folds, as workers tell them: losses over the base's mean of the fold's own images."""
    jobs = []
    for fold, images in enumerate(FOLDS):
        base = sum(BASE[image] for image in images) / len(images)
        own = [LOSSES[image] * by for image in images]
        job = outcome(
            first + fold, [one / base for one in own], rows=f"{rows}{fold}", name=f"rank{rank}-fold{fold}",
            overrides={"lora.rank": rank, "data.fold": str(fold)},
        )  # fmt: skip
        assert job.by_item is not None
        assert job.summary is not None
        summary = replace(job.summary, val_loss=sum(own) / len(own))
        told = replace(job.by_item, base=tuple(BASE[image] / base for image in images))
        jobs.append(replace(job, summary=summary, by_item=told))
    return jobs


def _refitted(rank: str, job: int) -> JobOutcome:
    told = outcome(job, 0.1, name=f"rank{rank}-foldall", overrides={"lora.rank": rank, "data.fold": "all"})
    assert told.score is None, "it was judged on what it learned from"
    return told


def test_folds_are_pooled_over_all_images_each_over_the_bases_mean_of_all() -> None:
    (one,) = spreads(_folded("4", 0))
    whole = sum(BASE.values()) / 5
    assert one.by_image == pytest.approx([loss / whole for loss in LOSSES.values()])
    assert one.mean == pytest.approx(sum(LOSSES.values()) / sum(BASE.values()))
    alone = verdict_of(_folded("4", 0))
    assert alone is not None
    assert (alone.job, alone.count, alone.of, alone.sure) == (0, 5, "images", False)
    assert alone.sentence == (
        "0.657 of the base's loss over 5 images (spread 0.344), by 3 folds; data.fold=all trains it on every image"
    )


def test_what_folds_were_judged_on_is_called_as_the_task_calls_it() -> None:
    def chats(jobs: list[JobOutcome]) -> list[JobOutcome]:
        return [replace(one, by_item=replace(one.by_item, called="chats")) for one in jobs if one.by_item]

    alone, several = verdict_of(chats(_folded("4", 0))), verdict_of(chats([*_folded("4", 0, 1.3), *_folded("8", 3)]))
    assert alone is not None
    assert several is not None
    assert "over 5 chats (spread" in alone.sentence
    assert (alone.of, several.of) == ("chats", "chats")


def test_settings_are_compared_by_folds_image_by_image_and_the_refit_is_kept() -> None:
    jobs = [*_folded("4", 0, 1.3), *_folded("8", 3)]
    told = verdict_of(jobs)
    assert told is not None
    assert (told.job, told.count, told.sure) == (3, 5, True)
    by = "keep rank=8: -23.08 % [-23.08, -23.08] against rank=4, by 3 folds"
    assert told.sentence == f"{by}; data.fold=all trains it on every image"
    kept = verdict_of([*jobs, _refitted("8", 6)])
    assert kept is not None
    assert (kept.job, kept.name, kept.file) == (6, "rank8-foldall", "6/adapter/n6.safetensors")
    assert kept.sentence == by


def test_a_setting_without_all_folds_or_on_other_rows_is_left_out() -> None:
    jobs = [*_folded("4", 0), *_folded("8", 3)[:2], *_folded("16", 6, rows="other")]
    assert [one.name for one in spreads(jobs)] == ["rank=4"]
    assert [one.name for one in spreads([*jobs[3:5], *jobs[:3]])] == ["rank=4"], "whichever came first"
    assert verdict_of(_folded("4", 0)[:1]) is None, "one fold says nothing"
    lost = [replace(one, state="FAILED") for one in _folded("4", 0)]
    assert verdict_of(lost) is None


def test_folds_of_several_seeds_are_averaged_image_by_image() -> None:
    def seeded(seed: str, first: int, by: float) -> list[JobOutcome]:
        return [replace(one, overrides={**one.overrides, "seed": seed}) for one in _folded("4", first, by)]

    (one,) = spreads([*seeded("0", 0, 1.0), *seeded("1", 3, 1.2)])
    whole = sum(BASE.values()) / 5
    assert one.by_image == pytest.approx([1.1 * loss / whole for loss in LOSSES.values()])
