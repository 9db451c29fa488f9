"""Names are unique and tell what is swept."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.launch.points.names import Names, show_value, told_shortly
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
    assert Names().name(jobs, given).names == expected


FLOATS = st.floats(min_value=1e-12, max_value=1e12, exclude_min=True)
NUMBERS = {
    "optimizer.lr": FLOATS,
    "optimizer.eps": FLOATS,
    "lora.alpha": FLOATS,
    "trainer.epochs": FLOATS,
    "lora.dropout": st.floats(0.0, 0.99),
    "trainer.accumulate": st.integers(1, 4096),
    "seed": st.integers(0, 2**63 - 1),
    "trainer.max_grad_norm": st.none() | FLOATS,
}


@given(st.data(), st.sampled_from(sorted(NUMBERS)))
def test_different_numbers_have_different_names_without_being_counted(data: st.DataObject, key: str) -> None:
    values = data.draw(st.lists(NUMBERS[key], min_size=2, max_size=4, unique=True))
    names = names_of(key, values)
    assert len(set(names)) == len(values)
    assert not any(name == f"{names[0]}-{number}" for number in range(2, 9) for name in names)
    shown = [show_value(job(**{key.replace(".", "__"): value}), key, "null") for value in values]
    assert len(set(shown)) == len(values), "and in the table"


@pytest.mark.parametrize(
    ("key", "values", "ends"),
    [
        ("optimizer.lr", [1e9, 1e-9], ["lr1e9", "lr1e-09"]),
        ("optimizer.lr", [1e-4, 1.0000001e-4], ["lr0.0001", "lr0.00010000001"]),
        ("data.path", ["/a/photos", "/b/photos"], ["patha-photos", "pathb-photos"]),
        ("data.path", ["x", "/y/z"], ["pathx", "pathz"]),
        ("data.path", ["müller", "anna"], ["pathmuller", "pathanna"]),
        ("lora.init_from", ["/a/anna.safetensors", "/a/ben.safetensors"], ["fromanna", "fromben"]),
        ("lora.init_from", ["/a/x.safetensors", "/b/x.safetensors"], ["froma-x", "fromb-x"]),
        ("model.path", ["/m/v1-5.safetensors", "/m/v1-4.ckpt"], ["basev1-5", "basev1-4"]),
    ],
)
def test_what_is_swept_is_told_apart(key: str, values: list, ends: list[str]) -> None:
    assert names_of(key, values) == [f"duotone-rank8-{end}" for end in ends]


def test_paths_take_no_more_room_in_the_table_than_tells_them_apart() -> None:
    near, far = "/long/way/to/anna.safetensors", "/long/way/to/ben.safetensors"
    assert told_shortly("lora.init_from", [near, far, near]) == {near: "anna", far: "ben"}
    other = "/another/way/to/ben.safetensors"
    assert told_shortly("data.path", [far, other]) == {far: "long/way/to/ben", other: "another/way/to/ben"}
    assert told_shortly("optimizer.lr", ["0.1", "0.2"]) == {"0.1": "0.1", "0.2": "0.2"}


@pytest.mark.slow
@given(st.lists(st.text(max_size=40).filter(str.strip), min_size=2, max_size=5, unique=True))
def test_texts_are_told_apart_too_by_a_digest_where_letters_do_not(texts: list[str]) -> None:
    names = names_of("data.caption_prefix", texts)
    assert len({name.lower() for name in names}) == len(texts)
    assert not any(name.endswith(("x-2", "x-3")) for name in names)


def names_of(key: str, values: list) -> list[str]:
    jobs = [job(**{key.replace(".", "__"): value}) for value in values]
    given = [{key: "null" if value is None else str(value)} for value in values]
    return list(Names().name(jobs, given).names)


def test_group_choices_are_told_by_their_name() -> None:
    jobs = [job(optimizer__name="adamw"), job(optimizer__name="prodigy", optimizer__lr=1.0)]
    named = Names().name(jobs, [{"optimizer": "adamw"}, {"optimizer": "prodigy"}])
    assert named.names == ("duotone-rank8-adamw", "duotone-rank8-prodigy")


def test_what_is_the_same_for_all_is_not_told() -> None:
    named = Names().name([job(lora__rank=4), job()], [{"lora.rank": "4", "seed": "7"}, {"lora.rank": "8", "seed": "7"}])
    assert named.names == ("duotone-rank4", "duotone-rank8")


def test_a_given_name_is_kept_alone_and_lengthened_with_a_note_when_shared() -> None:
    assert Names().name([job(name="anna")], [{"name": "anna"}]).names == ("anna",)
    jobs = [job(name="anna", lora__rank=rank) for rank in (4, 8)]
    named = Names().name(jobs, [{"name": "anna", "lora.rank": str(rank)} for rank in (4, 8)])
    assert named.names == ("anna-rank4", "anna-rank8")
    assert all("name=anna is shared" in note for note in named.notes)
    assert len(named.notes) == 2


def test_a_name_that_is_only_too_long_or_differs_in_case_is_not_called_shared() -> None:
    long = "a" * 100
    (note,) = Names().name([job(name=long)], [{"name": long}]).notes
    assert f"name={long} is longer than 80 characters; this one is called aaa" in note
    (note,) = Names(None, ["Anna"]).name([job(name="anna")], [{"name": "anna"}]).notes
    assert note == "name=anna is another job's already, small and capital letters aside; this one is called anna-2"


def test_equal_jobs_and_names_that_differ_in_case_only_are_numbered() -> None:
    assert Names().name([job(), job()], [{"seed": "0"}, {"seed": "0"}]).names == ("duotone-rank8", "duotone-rank8-2")
    named = Names().name([job(name="Anna"), job(name="anna")], [{"name": "Anna"}, {"name": "anna"}])
    assert named.names == ("Anna", "anna-2"), "file systems without case exist"


def test_names_of_earlier_jobs_of_the_sweep_are_taken() -> None:
    assert Names(None, ["duotone-rank8"]).name([job()], [{}]).names == ("duotone-rank8-2",)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from([1, 4]), st.integers(0, 2), st.text(max_size=200)), min_size=1, max_size=8))
def test_names_are_unique_and_fit_for_files_whatever_is_swept(points: list[tuple[int, int, str]]) -> None:
    jobs = [job(lora__rank=rank, seed=seed, data__path=path or "x") for rank, seed, path in points]
    given_words = [{"lora.rank": str(r), "seed": str(s), "data.path": p} for r, s, p in points]
    names = Names().name(jobs, given_words).names
    assert len({name.lower() for name in names}) == len(points)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        assert len(name) <= 90


def test_jobs_that_come_later_are_named_by_the_same_keys_and_change_no_name() -> None:
    names = Names(["lora.rank", "optimizer.lr"])
    given = [{"lora.rank": "4", "optimizer.lr": "0.1"}, {"lora.rank": "8", "optimizer.lr": "0.1"}]
    jobs = [job(lora__rank=4, optimizer__lr=0.1), job(lora__rank=8, optimizer__lr=0.1)]
    alone = [names.name([one], [words]).names[0] for one, words in zip(jobs, given, strict=True)]
    together = Names(["lora.rank", "optimizer.lr"]).name(jobs, given).names
    assert tuple(alone) == together == ("duotone-rank4-lr0.1", "duotone-rank8-lr0.1")


def test_a_value_that_comes_later_is_told_from_those_before() -> None:
    names = Names(["data.path"])
    paths = ["/a/photos", "/b/photos", "/a/photos", "/b/Photos"]
    found = [names.name([job(data__path=path)], [{"data.path": path}]).names[0] for path in paths]
    assert found[:3] == ["duotone-rank8-pathphotos", "duotone-rank8-pathb-photos", "duotone-rank8-pathphotos-2"]
    assert found[3] == "duotone-rank8-path-b-Photos", "case alone tells nothing apart"
    texts = Names(["data.caption_prefix"])
    words = ["a b", "a-b"]
    first, second = [texts.name([job(data__caption_prefix=w)], [{"data.caption_prefix": w}]).names[0] for w in words]
    assert first == "duotone-rank8-captionprefixa-b"
    assert second.startswith(f"{first}-"), "a digest where letters do not"
    assert not second.endswith("-2")


def test_a_name_that_is_given_for_a_whole_sweep_is_lengthened_from_the_first() -> None:
    names = Names(["lora.rank"])
    (first,) = names.name([job(name="anna", lora__rank=4)], [{"name": "anna", "lora.rank": "4"}]).names
    (second,) = names.name([job(name="anna", lora__rank=8)], [{"name": "anna", "lora.rank": "8"}]).names
    assert (first, second) == ("anna-rank4", "anna-rank8")
    assert Names(["name"]).name([job(name="ben")], [{"name": "ben"}]).names == ("ben",)
