"""Pictures of members: the right adapter on the right rows, the base drawn once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from lora_foundry.data.cache import TensorCache
from lora_foundry.models.families.sd.denoiser import SdDenoiser
from lora_foundry.models.protocol import Conditioning
from lora_foundry.tasks.denoising import Prompts
from lora_foundry.tasks.denoising.material import material_of
from lora_foundry.tasks.denoising.pictures import Painter, Picture
from lora_foundry.training.member import Member
from lora_foundry.training.pack import Pack
from lora_foundry.training.shortage import NoRelief, OutOfMemoryError
from tests.training.world import WIDTH, Spec, make_member, make_task

OPTIONS = (
    "sample=default",
    "sample.prompts=[one,two,three]",
    "sample.seeds=[0,5]",
    "sample.steps=2",
    "sample.scales=[0.0,0.8,1.0]",
    "data.resolution=64",
    "trainer.precision=32-true",
)


class ShowLatents:
    """Pixels are the latents themselves, so that pictures can be compared to the last digit."""

    pixels_per_cell = 8

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :3].permute(0, 2, 3, 1).clone()

    def leave(self) -> None:
        """Nothing to move."""

    def close(self) -> None:
        """Nothing to close."""


def _member(name: str, root: Path, *overrides: str) -> Member:
    member = make_member(Spec(name, (*OPTIONS, *overrides)), root)
    draw = torch.Generator().manual_seed(3)
    texts = member.config.sample.prompts
    states = torch.randn(len(texts) + 1, 5, WIDTH, generator=draw)
    prompts = Prompts(
        texts=texts, conditioning={"encoder_hidden_states": states[:-1]}, empty={"encoder_hidden_states": states[-1:]}
    )
    member.material = replace(member.material, prompts=prompts)
    return member


def _wake(pack: Pack, names: Mapping[str, float]) -> None:
    for name, size in names.items():
        draw = torch.Generator().manual_seed(len(name))
        for value in pack.bank.unpack(pack.bank.weights[pack.bank.place(name)], name).values():
            value.copy_(torch.randn(value.shape, generator=draw) * size)


def _by_label(pictures: list[Picture]) -> dict[tuple[str, int, float], Tensor]:
    return {(p.prompt, p.seed, p.scale): p.pixels for p in pictures}


@pytest.mark.slow
def test_packed_pictures_are_those_of_each_member_alone(tmp_path: Path) -> None:
    sizes = {"a": 0.1, "bb": 0.2}
    pack = Pack(make_task(torch.float32), [_member(name, tmp_path) for name in sizes])
    _wake(pack, sizes)
    together = Painter(pack, pack.task.denoiser, ShowLatents()).draw(pack.members)
    for name, size in sizes.items():
        alone = Pack(make_task(torch.float32), [_member(name, tmp_path)])
        _wake(alone, {name: size})
        expected = _by_label(Painter(alone, alone.task.denoiser, ShowLatents()).draw(alone.members)[name])
        got = _by_label(together[name])
        assert len(got) == 3 * 2 * 3
        for label, pixels in expected.items():
            torch.testing.assert_close(got[label], pixels, rtol=1e-3, atol=1e-4)
    one, other = _by_label(together["a"]), _by_label(together["bb"])
    assert torch.equal(one["two", 5, 0.0], other["two", 5, 0.0])
    assert not torch.allclose(one["two", 5, 1.0], other["two", 5, 1.0], atol=1e-3)
    assert not torch.allclose(one["two", 5, 1.0], one["two", 5, 0.8], atol=1e-3)
    assert not torch.allclose(one["two", 5, 1.0], one["one", 5, 1.0], atol=1e-3)


@pytest.mark.slow
def test_a_base_in_fp16_draws_what_it_draws_in_fp32(tmp_path: Path) -> None:
    drawn = []
    for precision, dtype in (("16-mixed", torch.float16), ("32-true", torch.float32)):
        pack = Pack(make_task(dtype), [_member("a", tmp_path, f"trainer.precision={precision}")])
        _wake(pack, {"a": 0.1})
        drawn.append(_by_label(Painter(pack, pack.task.denoiser, ShowLatents()).draw(pack.members)["a"]))
    for label, pixels in drawn[0].items():
        assert float((pixels - drawn[1][label]).norm() / drawn[1][label].norm()) < 2e-2


class Small(ShowLatents):
    """Has room for one picture."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.left = 0

    def decode(self, latents: Tensor) -> Tensor:
        self.taken.append(len(latents))
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().decode(latents)

    def leave(self) -> None:
        self.left += 1


class Filling(Small):
    """Fills a host with two pictures, where no allocation fails: the watch sees it, and its layers ask."""

    def __init__(self) -> None:
        super().__init__()
        self._layer = torch.nn.Identity()
        self._inside = 0

    def check(self) -> None:
        """The watch's."""
        if self._inside > 1:
            raise OutOfMemoryError("too little is left")

    def decode(self, latents: Tensor) -> Tensor:
        self.taken.append(len(latents))
        self._inside = len(latents)
        try:
            return ShowLatents.decode(self, self._layer(latents))
        finally:
            self._inside = 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Small, Filling])
def test_a_decoder_that_runs_short_takes_pictures_one_by_one_and_nothing_is_drawn_again(
    kind: type[Small], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    denoise = SdDenoiser.denoise

    def counted(self: SdDenoiser, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        rows.append(len(noisy))
        return denoise(self, noisy, timesteps, conditioning)

    monkeypatch.setattr(SdDenoiser, "denoise", counted)
    member = _member("a", tmp_path, "sample.prompts=[one,two,three]")
    small, relief = kind(), NoRelief()
    monkeypatch.setattr(relief, "check", getattr(small, "check", relief.check))
    pack = Pack(make_task(torch.float32), [member], relief=relief)
    drawn = _by_label(Painter(pack, pack.task.denoiser, small).draw(pack.members)["a"])
    assert sum(rows) == 2 * (3 * 2) * 2  # steps x pictures x guidance, once
    assert small.taken == [2, 1, 1, 1, 1, 1, 1]
    assert small.left == 1
    asked = _by_label(Painter(pack, pack.task.denoiser, ShowLatents()).draw(pack.members)["a"])
    assert all(torch.equal(drawn[label], pixels) for label, pixels in asked.items())


@pytest.mark.slow
def test_a_decoder_that_fails_leaves_the_device_too(tmp_path: Path) -> None:
    pack = Pack(make_task(torch.float32), [_member("a", tmp_path)])

    class Broken(Small):
        def decode(self, latents: Tensor) -> Tensor:
            raise ValueError(f"{len(latents)} pictures too many")

    broken = Broken()
    with pytest.raises(ValueError, match="2 pictures too many"):
        Painter(pack, pack.task.denoiser, broken).draw(pack.members)
    assert broken.left == 1


@pytest.mark.slow
def test_the_base_is_drawn_once_and_serves_adapters_that_are_still_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    denoise = SdDenoiser.denoise

    def counted(self: SdDenoiser, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        rows.append(len(noisy))
        return denoise(self, noisy, timesteps, conditioning)

    monkeypatch.setattr(SdDenoiser, "denoise", counted)
    pack = Pack(make_task(torch.float32), [_member(name, tmp_path) for name in ("a", "b")])
    painter = Painter(pack, pack.task.denoiser, ShowLatents())
    first = {name: _by_label(pictures) for name, pictures in painter.draw(pack.members).items()}
    assert sum(rows) == 2 * (3 * 2) * 2  # steps x pictures x guidance: the base alone
    assert torch.equal(first["a"]["one", 0, 1.0], first["b"]["one", 0, 0.0])
    rows.clear()
    _wake(pack, {"a": 0.1, "b": 0.1})
    painter.draw(pack.members)
    assert sum(rows) == 2 * (3 * 2) * 2 * 2 * 2  # two members at two scales; scale 0 is known


@pytest.mark.slow
def test_the_bases_pictures_are_kept_for_the_next_pack_and_drawn_anew_when_anything_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwards: list[int] = []
    denoise = SdDenoiser.denoise

    def counted(self: SdDenoiser, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        forwards.append(len(noisy))
        return denoise(self, noisy, timesteps, conditioning)

    def drawn(name: str, *overrides: str, text: float = 0.0) -> Mapping[tuple[str, int, float], Tensor]:
        forwards.clear()
        member = _member(name, tmp_path, *overrides)
        member.material.prompts.conditioning["encoder_hidden_states"].add_(text)
        member.cache = TensorCache(tmp_path / "cache")
        pack = Pack(make_task(torch.float32), [member])
        return _by_label(Painter(pack, pack.task.denoiser, ShowLatents()).draw(pack.members)[name])

    monkeypatch.setattr(SdDenoiser, "denoise", counted)
    first = drawn("a")
    assert forwards
    again = drawn("b")
    assert not forwards
    assert all(torch.equal(again[label], pixels) for label, pixels in first.items())
    for changed in (
        *("sample.seeds=[0,6]", "sample.steps=3", "sample.guidance=2.5", "sample.sampler=dpmpp_2m"),
        "trainer.precision=64-true",
    ):
        drawn("c", changed)
        assert forwards, changed
    drawn("d", text=1.0)
    assert forwards, "other prompts"


@pytest.mark.slow
def test_guidance_of_one_takes_one_row_a_picture(tmp_path: Path) -> None:
    pack = Pack(make_task(torch.float32), [_member("a", tmp_path, "sample.guidance=1.0")])
    _wake(pack, {"a": 0.1})
    assert len(Painter(pack, pack.task.denoiser, ShowLatents()).draw(pack.members)["a"]) == 18


@pytest.mark.slow
def test_drawn_pictures_are_held_against_training_images_at_the_scale_next_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder stands in: it sees the mean colour, so that the numbers can be told by hand."""
    seen: list[list[Tensor]] = []

    class Colour:
        def __init__(self, folder: Path, device: torch.device) -> None:
            assert (folder.name, device.type) == ("encoder", "cpu")

        def embed(self, pictures: list[Tensor]) -> Tensor:
            seen.append(pictures)
            means = torch.stack([picture.float().mean((0, 1)) for picture in pictures])
            return torch.nn.functional.normalize(means, dim=1)

        def leave(self) -> None:
            """Nothing to move."""

    monkeypatch.setattr("lora_foundry.tasks.denoising.pictures.Likeness", Colour)
    (tmp_path / "encoder").mkdir()
    asked = f"validation.likeness={tmp_path / 'encoder'}"
    pack = Pack(make_task(torch.float32), [_member("a", tmp_path, asked), _member("bb", tmp_path)])
    _wake(pack, {"a": 0.1, "bb": 0.1})
    images = []
    for place, record in enumerate(material_of(pack.members[0]).train.records):
        Image.new("RGB", (64, 64), (40 * place, 90, 200)).save(tmp_path / record.image.name)
        content = (tmp_path / record.image.name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        images.append(replace(record, image=tmp_path / record.image.name, digest=digest))
    material = material_of(pack.members[0])
    pack.members[0].material = replace(material, train=replace(material.train, records=tuple(images)))
    painter = Painter(pack, pack.task.denoiser, ShowLatents())
    monkeypatch.setattr("lora_foundry.tasks.denoising.pictures._shown", lambda picture: picture)
    drawn = painter.show(pack.members)["a"]
    assert list(painter.measured()) == ["a"], "who asked for it"
    train, own = seen
    assert [tuple(picture[0, 0].tolist()) for picture in train] == [(40 * place, 90, 200) for place in range(6)]
    assert len(own) == 6, "of 18 pictures those at scale 1"
    at_one = [picture.pixels for picture in drawn if picture.scale == 1.0]
    assert all(map(torch.equal, own, at_one))
    pairs = [Colour(tmp_path / "encoder", torch.device("cpu")).embed(part) for part in (own, train)]
    assert painter.measured()["a"]["val/likeness"] == pytest.approx(float((pairs[0] @ pairs[1].T).mean()), abs=1e-6)
    painter.show(pack.members)
    assert len(seen) == 5, "training images are looked at once"
