"""Jobs are checked before a base is loaded: what is wrong fails one alone, what is odd is said once, tagged on all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from lora_foundry.config.compose import compose_job
from lora_foundry.config.length import total_steps
from lora_foundry.training import preparing
from lora_foundry.training.bases import Bases
from lora_foundry.training.pack import never
from lora_foundry.training.preparing import Checked, Encoders, check_jobs
from lora_foundry.training.shortage import OutOfMemoryError
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.commands import PackedJob
from lora_foundry.wire.events import Event, LogEvent, StateEvent, TagsEvent
from tests.training.stored import store

CPU = torch.device("cpu")

Check = Callable[..., tuple[list[Checked], list[Event]]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Checks a job for each list of overrides; what they train on lies in ``tmp_path/photos``."""

    def run(*jobs: tuple[str, ...]) -> tuple[list[Checked], list[Event]]:
        packed = []
        for number, words in enumerate(jobs):
            own = ("data=folder", f"data.path={tmp_path}/photos", "data.resolution=64", "data.val_fraction=0")
            folder = store(tmp_path / "sweep" / str(number), *own, f"data.cache_dir={tmp_path}/cache", *words)
            packed.append(PackedJob(job=number, name=f"j{number}", dir=folder, resume=False))
        sink = ListSink(tmp_path / "sweep")
        return check_jobs(packed, Bases(CPU), sink), sink.events

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(3):
        image = folder / "10_anna" / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (number * 50, 0, 0)).save(image)
        image.with_suffix(".txt").write_text(f"card {number}")
    return folder


def lines(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, LogEvent)]


def tags(events: list[Event], job: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for event in events:
        if isinstance(event, TagsEvent) and event.job == job:
            found |= event.values
    return found


@pytest.mark.slow
def test_what_data_is_warned_of_is_said_once_and_tagged_on_each_run(check: Check, photos: Path) -> None:
    checked, events = check((), ("lora.rank=4",))
    assert len(checked) == 2
    assert len([line for line in lines(events) if "10_anna: 3 x 10" in line]) == 1
    for job in (0, 1):
        assert "10_anna: 3 x 10" in tags(events, job)["warning.repeats"]
    assert photos.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("photos")
def test_long_prompts_are_said_once_and_tagged_on_each_run(check: Check) -> None:
    long = f"sample.prompts=[{'word ' * 100}]"
    _, events = check((long,), (long, "lora.rank=4"), ())
    assert len([line for line in lines(events) if "1 of sample.prompts are longer" in line]) == 1
    assert ["warning.prompts" in tags(events, job) for job in range(3)] == [True, True, False]


@pytest.mark.slow
def test_half_an_emoji_fails_its_job_alone_with_file_and_line_and_can_be_skipped(check: Check, photos: Path) -> None:
    rows = [f'{{"file_name":"10_anna/{n}.png","text":"card {n}{tail}"}}' for n, tail in enumerate(("\\ud83d", "", ""))]
    (photos / "metadata.jsonl").write_text("\n".join(rows))
    checked, events = check((), ("data.on_bad=skip",))
    assert [one.job.job for one in checked] == [1]
    assert len(checked[0].data.train) == 2
    (error,) = [event.error for event in events if isinstance(event, StateEvent)]
    assert "metadata.jsonl line 1: the caption of 10_anna/0.png is no valid Unicode" in error


@pytest.mark.slow
@pytest.mark.usefixtures("photos")
def test_a_member_draws_images_as_often_as_they_repeat_and_counts_them_in_epochs(check: Check, tmp_path: Path) -> None:
    checked, _ = check(("trainer.epochs=2", "sample=none"), ("trainer.epochs=2", "sample=none", "data.repeats=none"))
    members = Encoders(ListSink(tmp_path), CPU).members(checked)
    assert [member.order.epoch for member in members] == [30, 3]
    assert [member.total_steps for member in members] == [15, 2]
    assert members[0].total_steps == total_steps(members[0].config, 30)


@pytest.mark.slow
def test_a_job_of_an_earlier_version_takes_each_image_once(check: Check, tmp_path: Path, photos: Path) -> None:
    stored = store(tmp_path / "old", "data=folder", f"data.path={photos}", "data.resolution=64", "data.val_fraction=0")
    file = stored / ".hydra" / "config.yaml"
    config = OmegaConf.load(file)
    for key in ("captions", "repeats", "follow_links", "prompts"):
        del config.data[key]
    OmegaConf.save(config, file)
    sink = ListSink(tmp_path)
    (one,) = check_jobs([PackedJob(job=0, name="old", dir=stored, resume=True)], Bases(CPU), sink)
    assert {record.repeats for record in one.data.train} == {1}
    assert not lines(sink.events)
    (new,), _ = check(())
    assert new.data.data_hash != one.data.data_hash
    assert compose_job("data=folder", "data.path=x").data.repeats == "auto"


@pytest.mark.parametrize("used", [False, True])
def test_an_encoders_share_of_the_device_is_given_back_once_it_is_done(
    used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Encoder:
        fingerprint = ""

        def encode(self, batch: torch.Tensor) -> torch.Tensor:
            return batch

        def close(self) -> None:
            told.append("closed")

    monkeypatch.setattr(preparing, "give_back", lambda device: told.append(f"given back: {device}"))
    patient = preparing._Patient(Encoder(), never, torch.device("cpu"))
    if used:
        patient.encode(torch.zeros(2, 1))
    patient.close()
    assert told == ["closed", *(["given back: cpu"] if used else [])]


def test_an_encoder_in_which_the_watch_sees_memory_run_short_takes_a_batch_in_parts() -> None:
    taken: list[int] = []

    class Encoder:
        fingerprint = ""
        layer = torch.nn.Identity()

        def encode(self, batch: torch.Tensor) -> torch.Tensor:
            taken.append(len(batch))
            done: torch.Tensor = self.layer(batch)
            return done

    def check() -> None:
        if taken[-1] > 1:
            raise OutOfMemoryError("too little is left")

    batch = torch.arange(3.0).view(3, 1)
    encoded = preparing._Patient(Encoder(), never, torch.device("cpu"), check).encode(batch)
    assert torch.equal(encoded, batch)
    assert taken == [3, 2, 1, 1, 1]
