"""Diffusers' and PEFT's own loaders draw the same with our files as the plainly merged weights do."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lora_foundry.lora.formats.adapter import Adapter, LoraWeights, effective_alpha
from lora_foundry.lora.formats.apply import apply_adapter
from lora_foundry.lora.formats.check import check_written
from lora_foundry.lora.formats.diffusers_file import lora_configs, write_diffusers
from lora_foundry.lora.formats.kohya import write_kohya
from lora_foundry.lora.formats.metadata import FileMetadata
from tests.lora.formats import builders


def write_without_header(path: Path, adapter: Adapter, meta: FileMetadata, dtype: torch.dtype) -> None:
    """Diffusers' file as a reader sees it that passes the header over, as ComfyUI does."""
    write_diffusers(path, adapter, meta, dtype)
    save_file(load_file(path), path)


WRITERS = pytest.mark.parametrize("write", [write_kohya, write_diffusers, write_without_header])
LIMIT = 1e-3  # INTEROP's limit for fp16 files


@pytest.fixture
def pipe() -> StableDiffusionPipeline:
    return builders.tiny_pipeline()


def outputs(pipe: StableDiffusionPipeline) -> tuple[Tensor, Tensor]:
    """Text states ``[2, 8, 32]`` and predicted noise ``[2, 4, 8, 8]`` for fixed inputs."""
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    tokens = torch.tensor([[0, 5, 6, 7, 1, 1, 1, 1], [0, 9, 4, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        text = pipe.text_encoder(tokens)[0]
        return text, pipe.unet(latents, torch.tensor([10, 500]), text).sample


def expected(pipe: StableDiffusionPipeline, adapter: Adapter, scale: float = 1.0) -> tuple[Tensor, ...]:
    with apply_adapter(pipe.unet, adapter, scale, text_encoder=pipe.text_encoder):
        return outputs(pipe)


def assert_close(got: tuple[Tensor, ...], wanted: tuple[Tensor, ...], base: tuple[Tensor, ...], limit: float) -> None:
    """Relative to what the adapter changes, which is stricter than relative to the output."""
    for found, right, before in zip(got, wanted, base, strict=True):
        change = (right - before).norm()
        assert (found - right).norm() <= limit * change
    assert (wanted[-1] - base[-1]).norm() > 0.05 * base[-1].norm()


CASES: dict[str, dict[str, Any]] = {
    "alpha equal to rank": {},
    "alpha unlike rank": {"alphas": (2.5,)},
    "rslora": {"alphas": (effective_alpha(3.0, 4, use_rslora=True),)},
    "only 3x3 convolutions": {"only": "conv", "alphas": (6.0,)},
    "only 1x1 convolutions": {"only": "proj_in", "alphas": (6.0,)},
    "mixed ranks": {"ranks": (2, 4, 8), "alphas": (6.0,)},
    "mixed ranks and alphas": {"ranks": (2, 4, 8), "alphas": (1.0, 3.0, 7.0, 3.0)},
}


@pytest.mark.slow
@WRITERS
@pytest.mark.parametrize("case", CASES)
def test_a_loaded_unet_adapter_acts_as_the_merged_one(
    write: Callable[..., None], case: str, pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    adapter = Adapter(builders.adapt(pipe.unet, **CASES[case]))
    path = tmp_path / "a.safetensors"
    write(path, adapter, builders.metadata(), torch.float16)
    if write is not write_without_header:  # its hash stood there
        check_written(path, adapter)
    base, wanted = outputs(pipe), expected(pipe, adapter)
    pipe.load_lora_weights(str(path))
    assert_close(outputs(pipe), wanted, base, LIMIT)


@pytest.mark.slow
@WRITERS
@pytest.mark.parametrize("case", ["alpha unlike rank", "rslora", "mixed ranks and alphas"])
def test_a_loaded_text_encoder_adapter_acts_as_the_merged_one(
    write: Callable[..., None], case: str, pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    adapter = Adapter(
        builders.adapt(pipe.unet, **CASES[case], only="attn"), builders.adapt(pipe.text_encoder, **CASES[case])
    )
    assert all(name.startswith("text_model.") for name in adapter.text_encoder)
    path = tmp_path / "a.safetensors"
    write(path, adapter, builders.metadata(), torch.float16)
    base, wanted = outputs(pipe), expected(pipe, adapter)
    pipe.load_lora_weights(str(path))
    assert_close(outputs(pipe), wanted, base, LIMIT)


@pytest.mark.slow
@WRITERS
def test_a_text_encoder_adapter_alone_loads(
    write: Callable[..., None], pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    adapter = Adapter(text_encoder=builders.adapt(pipe.text_encoder, alphas=(20.0,)))
    path = tmp_path / "a.safetensors"
    write(path, adapter, builders.metadata(), torch.float16)
    base, wanted = outputs(pipe), expected(pipe, adapter)
    pipe.load_lora_weights(str(path))
    assert_close(outputs(pipe), wanted, base, LIMIT)


@pytest.mark.slow
@WRITERS
def test_half_the_strength_is_half_the_update(
    write: Callable[..., None], pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    adapter = Adapter(builders.adapt(pipe.unet, alphas=(6.0,)), builders.adapt(pipe.text_encoder, alphas=(6.0,)))
    path = tmp_path / "a.safetensors"
    write(path, adapter, builders.metadata(), torch.float16)
    base, wanted = outputs(pipe), expected(pipe, adapter, 0.5)
    pipe.load_lora_weights(str(path), adapter_name="flat")
    pipe.set_adapters("flat", 0.5)
    assert_close(outputs(pipe), wanted, base, LIMIT)


@pytest.mark.slow
@WRITERS
def test_a_bf16_file_loads_within_its_rounding(
    write: Callable[..., None], pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    adapter = Adapter(builders.adapt(pipe.unet, alphas=(6.0,)))
    path = tmp_path / "a.safetensors"
    write(path, adapter, builders.metadata(), torch.bfloat16)
    base, wanted = outputs(pipe), expected(pipe, adapter)
    pipe.load_lora_weights(str(path))
    assert_close(outputs(pipe), wanted, base, 8 * LIMIT)  # bf16 has 3 bits less than fp16


@pytest.mark.slow
@WRITERS
def test_an_sdxl_adapter_reaches_unet_and_both_text_encoders(write: Callable[..., None], tmp_path: Path) -> None:
    pipe = builders.tiny_sdxl_pipeline()
    mixed: dict[str, Any] = {"ranks": (2, 4), "alphas": (1.0, 3.0, 3.0)}
    models = (pipe.unet, pipe.text_encoder, pipe.text_encoder_2)
    adapter = Adapter(*(builders.adapt(model, **mixed) for model in models))
    path = tmp_path / "a.safetensors"
    write(path, adapter, builders.sdxl_metadata(), torch.float16)
    if write is not write_without_header:
        check_written(path, adapter)
    base = sdxl_outputs(pipe)
    with apply_adapter(pipe.unet, adapter, text_encoder=pipe.text_encoder, text_encoder_2=pipe.text_encoder_2):
        wanted = sdxl_outputs(pipe)
    pipe.load_lora_weights(str(path))
    assert_close(sdxl_outputs(pipe), wanted, base, LIMIT)


def sdxl_outputs(pipe: StableDiffusionXLPipeline) -> tuple[Tensor, ...]:
    """States of both text encoders ``[1, 8, 32]`` and predicted noise ``[1, 4, 8, 8]`` for fixed inputs."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    tokens = torch.tensor([[0, 5, 6, 7, 1, 1, 1, 1]])
    with torch.no_grad():
        first, second = pipe.text_encoder(tokens)[0], pipe.text_encoder_2(tokens)
        added = {"text_embeds": second.text_embeds, "time_ids": torch.zeros(1, 6)}
        text = torch.cat([first, second.last_hidden_state], dim=-1)
        noise = pipe.unet(latents, torch.tensor([500]), text, added_cond_kwargs=added).sample
    return first, second.last_hidden_state, noise


@pytest.mark.slow
def test_pefts_own_loader_takes_the_diffusers_file(pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    adapter = Adapter(builders.adapt(pipe.unet, ranks=(2, 4, 8), alphas=(1.0, 3.0, 7.0, 3.0)))
    path = tmp_path / "a.safetensors"
    write_diffusers(path, adapter, builders.metadata(), torch.float16)
    base, wanted = outputs(pipe), expected(pipe, adapter)
    with safe_open(path, framework="pt") as file:
        fields = json.loads(file.metadata()["lora_adapter_metadata"])
        tensors = {key.removeprefix("unet."): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    config = LoraConfig(**{key.removeprefix("unet."): value for key, value in fields.items()})
    inject_adapter_in_model(config, pipe.unet, adapter_name="flat")
    result = set_peft_model_state_dict(pipe.unet, tensors, "flat")
    assert not result.unexpected_keys
    assert_close(outputs(pipe), wanted, base, LIMIT)


def test_one_modules_alpha_does_not_leak_to_modules_whose_names_end_alike() -> None:
    model = torch.nn.ModuleDict(
        {"proj": torch.nn.Linear(3, 3), "block": torch.nn.ModuleDict({"proj": torch.nn.Linear(3, 3)})}
    )
    alphas = {"proj": 5.0, "block.proj": 1.0, "block.other": 1.0}
    adapter = Adapter({name: builders.lora((3, 3), 2, alpha) for name, alpha in alphas.items()})
    fields = {key.removeprefix("unet."): value for key, value in lora_configs(adapter).items()}
    inject_adapter_in_model(LoraConfig(**fields), model, adapter_name="flat")
    assert {name: model.get_submodule(name).scaling["flat"] for name in ("proj", "block.proj")} == {
        "proj": 2.5,
        "block.proj": 0.5,
    }


def dora(model: torch.nn.Module, modules: dict[str, LoraWeights]) -> dict[str, LoraWeights]:
    made = {}
    for name, weights in modules.items():
        norm = model.get_submodule(name).weight.detach().flatten(1).norm(dim=1)
        grown = norm * (1 + 0.2 * torch.rand(norm.shape, generator=torch.Generator().manual_seed(5)))
        made[name] = replace(weights, dora_scale=grown.reshape(-1, *([1] * (weights.down.ndim - 1))))
    return made


@pytest.mark.slow
def test_dora_in_a_diffusers_file_acts_as_the_merged_one(pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    unet, text = builders.adapt(pipe.unet, alphas=(3.0,)), builders.adapt(pipe.text_encoder, alphas=(3.0,))
    adapter = Adapter(dora(pipe.unet, unet), dora(pipe.text_encoder, text))
    path = tmp_path / "a.safetensors"
    write_diffusers(path, adapter, builders.metadata(), torch.float16)
    check_written(path, adapter)
    base, wanted = outputs(pipe), expected(pipe, adapter)
    pipe.load_lora_weights(str(path))
    assert_close(outputs(pipe), wanted, base, 2 * LIMIT)  # the magnitudes, near the weights' norms, are rounded too


@pytest.mark.slow
def test_dora_in_a_kohya_file_is_kept_and_diffusers_drops_it_with_a_warning(
    pipe: StableDiffusionPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = Adapter(dora(pipe.unet, builders.adapt(pipe.unet, only="attn1")))
    path = tmp_path / "a.safetensors"
    write_kohya(path, adapter, builders.metadata(), torch.float16)
    check_written(path, adapter)
    with safe_open(path, framework="pt") as file:
        scales = [key for key in file.keys() if key.endswith(".dora_scale")]  # noqa: SIM118
    assert len(scales) == len(adapter.unet)
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    pipe.load_lora_weights(str(path))
    assert "DoRA" in caplog.text
