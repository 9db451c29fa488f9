"""Pictures: deterministic, those of diffusers' own pipeline, and independent of what is drawn beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from transformers import CLIPTextModel, CLIPTokenizer

from lora_foundry.config.choices import SAMPLERS
from lora_foundry.config.streams import stream_key
from lora_foundry.models import open_base
from lora_foundry.models.samplers import sampler_choice
from lora_foundry.models.sampling import decoded, draw, first_noise, pictures_at_once
from lora_foundry.objectives import sample_noise
from tests.added import Added
from tests.models.conftest import CPU, model_config

CAPTIONS = ["red heart", "pizza", "red pizza"]
SETTINGS: dict[str, Any] = {"steps": 4, "guidance": 3.0, "side": 8}


@pytest.fixture(scope="module")
def parts(folder: Path) -> tuple[Any, Any, Any]:
    """Denoiser, decoder and caption encoder in fp32."""
    base = open_base(model_config(folder))
    place = {"dtype": torch.float32, "device": CPU}
    return base.load_denoiser(**place), base.load_decoder(**place), base.caption_encoder(**place)


@pytest.fixture
def paint(parts: tuple[Any, Any, Any]) -> Callable[..., torch.Tensor]:
    """Draw captions with seeds."""
    denoiser, decoder, words = parts

    def make(captions: Sequence[str], seeds: Sequence[int], **changes: Any) -> torch.Tensor:
        told, empty = words.encode(captions), words.encode([""])
        settings = {**SETTINGS, **changes}
        latents = draw(denoiser, conditioning=told, empty_conditioning=empty, seeds=seeds, **settings)
        return decoded(decoder, latents, 2)

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [(None, DDIMScheduler), ("ddim", DDIMScheduler), ("dpmpp_2m", DPMSolverMultistepScheduler)],
)
def test_pictures_are_those_of_diffusers_pipeline(
    sampler: str | None, scheduler: Any, folder: Path, paint: Callable, parts: tuple[Any, Any, Any]
) -> None:
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder, subfolder="vae"),
        unet=UNet2DConditionModel.from_pretrained(folder, subfolder="unet"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=12),
        scheduler=scheduler.from_config(dict(parts[0].scheduler_config)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        CAPTIONS,
        latents=first_noise([5, 6, 5], parts[0], 8),
        num_inference_steps=4,
        guidance_scale=3.0,
        height=32,
        width=32,
        output_type="np",
    ).images
    got = paint(CAPTIONS, [5, 6, 5], sampler=sampler)
    assert got.shape == (3, 32, 32, 3)
    assert got.dtype == torch.uint8
    assert (got.double() - torch.from_numpy(expected * 255).double()).abs().max() <= 1.01
    assert got.double().std() > 1


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_every_sampler_undoes_the_bases_process_within_its_steps_and_repeats_itself(
    sampler: str, paint: Callable, parts: tuple[Any, Any, Any]
) -> None:
    denoiser, asked = parts[0], []

    def denoise(*arguments: Any) -> torch.Tensor:
        asked.append(len(arguments[0]))
        return denoiser.denoise(*arguments)

    assert denoiser.process.kind in sampler_choice(sampler).undoes
    first, again = (paint(CAPTIONS, [1, 2, 3], sampler=sampler, denoise=denoise) for _ in range(2))
    assert torch.equal(first, again)
    assert 0 < len(asked) <= 2 * SETTINGS["steps"]
    turned = paint(CAPTIONS[::-1], [3, 2, 1], sampler=sampler).flip(0)
    assert (first.int() - turned.int()).abs().max() <= 1


def test_an_unknown_sampler_is_refused_with_those_that_there_are(paint: Callable) -> None:
    with pytest.raises(LookupError, match=r"sample\.sampler: got 'heun', allowed is one of ddim, dpmpp_2m"):
        paint(CAPTIONS, [1, 2, 3], sampler="heun")


NOTHING = """
from lora_foundry.models.samplers import SamplerChoice

class _Nothing(SamplerChoice):
    undoes = ("discrete",)

    def walk(self, predict, latents, scheduler, steps):
        return latents

CHOICE = _Nothing()
"""


def test_one_more_sampler_is_one_more_file(paint: Callable, parts: tuple[Any, Any, Any], added: Added) -> None:
    added(SAMPLERS, "nothing", NOTHING)
    got = paint(CAPTIONS, [1, 2, 3], sampler="nothing")
    assert torch.equal(got, parts[1].decode(first_noise([1, 2, 3], parts[0], 8)))


def test_the_first_noise_is_a_function_of_the_rows_seed(parts: tuple[Any, Any, Any]) -> None:
    noise = first_noise([7, 8, 7], parts[0], 8)
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(noise[1], sample_noise((4, 8, 8), stream_key(8, "picture")))


@pytest.mark.slow
def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(paint: Callable) -> None:
    together = paint(CAPTIONS, [1, 2, 3])
    alone = torch.cat([paint([caption], [seed]) for caption, seed in zip(CAPTIONS, [1, 2, 3], strict=True)])
    assert (together.int() - alone.int()).abs().max() <= 1  # kernels round differently at other row counts
    turned = paint(CAPTIONS[::-1], [3, 2, 1]).flip(0)
    assert (together.int() - turned.int()).abs().max() <= 1


@pytest.mark.slow
def test_a_limit_of_rows_changes_nothing_but_the_rows(paint: Callable) -> None:
    seen: list[list[int]] = []

    @contextmanager
    def note(rows: Sequence[int]) -> Iterator[None]:
        seen.append(list(rows))
        yield

    whole = paint(CAPTIONS, [1, 2, 3], around=note)
    split = paint(CAPTIONS, [1, 2, 3], around=note, max_rows=4)
    assert seen == [[0, 1, 2, 0, 1, 2], [0, 1, 0, 1], [2, 2]]
    assert (whole.int() - split.int()).abs().max() <= 1
    seen.clear()
    paint(CAPTIONS, [1, 2, 3], around=note, guidance=1.0, max_rows=2)
    assert seen == [[0, 1], [2]]


@pytest.mark.slow
def test_unconditional_rows_come_first_in_one_block(parts: tuple[Any, Any, Any], paint: Callable) -> None:
    denoiser, _, words = parts
    inside: list[int] = []
    forwards: list[torch.Tensor] = []

    @contextmanager
    def around(rows: Sequence[int]) -> Iterator[None]:
        inside.append(len(rows))
        yield
        inside.pop()

    def denoise(noisy: torch.Tensor, timesteps: torch.Tensor, told: dict[str, torch.Tensor]) -> torch.Tensor:
        assert inside == [len(noisy)]  # every forward happens inside the context that was told of its rows
        assert torch.equal(noisy[:2], noisy[2:])
        assert timesteps.shape == (4,)
        forwards.append(told["encoder_hidden_states"])
        return denoiser.denoise(noisy, timesteps, told)

    paint(CAPTIONS[:2], [1, 2], denoise=denoise, around=around)
    empty, full = words.encode([""])["encoder_hidden_states"], words.encode(CAPTIONS[:2])["encoder_hidden_states"]
    assert len(forwards) == SETTINGS["steps"]
    assert all(torch.equal(states, torch.cat([empty, empty, full])) for states in forwards)
    assert not inside


@pytest.mark.slow
def test_guidance_moves_away_from_the_empty_caption(paint: Callable) -> None:
    one, three = paint(["red heart"], [1], guidance=1.0), paint(["red heart"], [1], guidance=20.0)
    assert not torch.equal(one, three)
    same = paint([""], [1], guidance=20.0)  # told nothing, there is nothing to move away from
    assert (same.int() - paint([""], [1], guidance=1.0).int()).abs().max() <= 1


def test_a_context_is_left_when_a_forward_fails(paint: Callable) -> None:
    left = []

    @contextmanager
    def around(_rows: Sequence[int]) -> Iterator[None]:
        try:
            yield
        finally:
            left.append(True)

    def fail(*_: Any) -> torch.Tensor:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        paint(["pizza"], [1], around=around, denoise=fail)
    assert left == [True]


def test_no_gradient_is_kept(paint: Callable, parts: tuple[Any, Any, Any]) -> None:
    denoiser = parts[0]
    seen = []

    def denoise(*arguments: Any) -> torch.Tensor:
        seen.append(torch.is_grad_enabled())
        return denoiser.denoise(*arguments)

    paint(["pizza"], [1], denoise=denoise)
    assert seen == [False] * SETTINGS["steps"]
    assert torch.is_grad_enabled()


def test_nothing_to_draw_gives_no_pictures(parts: tuple[Any, Any, Any]) -> None:
    denoiser, decoder, words = parts
    told = {name: rows[:0] for name, rows in words.encode([""]).items()}
    latents = draw(denoiser, conditioning=told, empty_conditioning=words.encode([""]), seeds=[], **SETTINGS)
    assert decoded(decoder, latents, 1).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("captions", "changes", "says"),
    [
        (CAPTIONS, {}, "got 2 seeds and conditioning of"),
        (CAPTIONS[:2], {"side": 0}, "got 0 cells a side"),
        (CAPTIONS[:2], {"steps": 0}, "0 steps"),
    ],
)
def test_what_does_not_fit_is_refused(paint: Callable, captions: list[str], changes: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        paint(captions, [1, 2], **changes)


def test_an_empty_conditioning_of_several_rows_is_refused(parts: tuple[Any, Any, Any]) -> None:
    denoiser, _, words = parts
    two = words.encode(["", ""])
    with pytest.raises(ValueError, match="needs one row"):
        draw(denoiser, conditioning=two, empty_conditioning=two, seeds=[1, 2], **SETTINGS)


@pytest.mark.parametrize(("size", "pictures"), [(64, 2), (362, 2), (363, 1), (512, 1), (1024, 1)])
def test_one_or_two_pictures_are_decoded_at_once(size: int, pictures: int) -> None:
    assert pictures_at_once(size) == pictures
