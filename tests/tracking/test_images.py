"""Pictures under identical keys, each once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lora_foundry.tracking import SweepWriter
from lora_foundry.tracking.images import clean_key, list_logged
from tests.tracking.fake_sweep import Recorded, Sweep

MakeSweep = Callable[..., Sweep]
Record = Callable[..., SweepWriter]


@pytest.mark.slow
def test_pictures_stand_under_the_same_keys_in_each_run(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=2)
    for job in range(2):
        for prompt in ("red heart", "pizza, on a plate"):
            for scale in (0.0, 1.0):
                sweep.picture(job, 5, prompt, scale)
    record(sweep, {0: "FINISHED", 1: "FINISHED"})
    recorded = Recorded(sweep)
    assert len(recorded.images(0)) == 8
    assert recorded.images(0) == recorded.images(1)
    assert recorded.images(0)[-2:] == [f"samples~red heart~scale 1.0+step+20{kind}" for kind in ("", " small")]
    assert recorded.children[1].data.tags["mlflow.loggedImages"] == "True"


@pytest.mark.parametrize("key", ["samples/red heart/scale 1.0", "samples/a_b-c.d/scale 0.8"])
def test_keys_that_mlflow_takes_stay_as_they_are(key: str) -> None:
    assert clean_key(key) == key


def test_other_keys_are_cleaned_shortened_and_kept_apart() -> None:
    keys = ["samples/a cat, red?/x", "samples/a cat; red!/x", "samples/爱/x", "samples/犬/x"]
    keys += [f"samples/{'long ' * 80}{end}" for end in "ab"]
    cleaned = [clean_key(key) for key in keys]
    assert len(set(cleaned)) == len(keys)
    assert all(len(key) <= 150 and key.isascii() for key in cleaned)
    assert cleaned == [clean_key(key) for key in keys]


@pytest.mark.slow
def test_a_picture_whose_thumbnail_is_missing_gets_it_and_no_twin(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=1)
    sweep.picture(0, 5)
    record(sweep, {0: "FINISHED"})
    recorded = Recorded(sweep)
    run = recorded.children[0]
    before = recorded.images(0)
    folder = (
        sweep.dir.parent.parent / "ml runs" / "artifacts" / "first-light" / run.info.run_id / "artifacts" / "images"
    )
    next(folder.glob("*.webp")).unlink()
    assert list(list_logged(recorded.client, run.info.run_id).torn) == [("samples~red heart~scale 1.0", 20)]
    (sweep.dir / "tracking.json").unlink()
    record(sweep, {0: "FINISHED"})
    assert Recorded(sweep).images(0) == before
