"""A small random Stable Diffusion, written in both layouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from lora_foundry.config.schema_denoising import DenoisingModel
from lora_foundry.models import open_base
from tests.models.ldm_names import ldm_state
from tests.root import PROJECT_ROOT

CPU = torch.device("cpu")
LAYERS = 1
TOKENS = 12
WIDTH = 16
MERGES = ["r e", "re d</w>", "h e", "he a", "hea r", "hear t</w>", "p i", "z z", "pi zz", "pizz a</w>"]
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def model_config(path: Path | str, **changes: Any) -> DenoisingModel:
    """The ``model`` group for a base at ``path``."""
    values: dict[str, Any] = {
        "name": "small",
        "family": "sd",
        "path": str(path),
        "config": None,
        "revision": None,
        "version": "sd_v1",
        "stride": 16,
        "prediction_type": "auto",
    }
    return DenoisingModel(**{**values, **changes})


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder in diffusers' format, and a single file with the same weights."""
    root = tmp_path_factory.mktemp("bases")
    folder = root / "folder"
    vocabulary = write_tokenizer(folder / "tokenizer")
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 64),
        layers_per_block=LAYERS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        sample_size=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        scaling_factor=0.5,
    )
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        eos_token_id=vocabulary - 1,
        bos_token_id=vocabulary - 2,
        pad_token_id=vocabulary - 1,
    )
    text = CLIPTextModel(config)
    torch.random.set_rng_state(state)
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    single = root / "small-v1.safetensors"
    parts = (unet.state_dict(), vae.state_dict(), text.state_dict())
    extra = {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(TOKENS)[None]}
    extra["model_ema.decay"] = torch.tensor(0.9)
    save_file(ldm_state(*parts, layers=LAYERS, vae_levels=3) | extra, single)
    return folder, single


def write_tokenizer(folder: Path) -> int:
    """A CLIP vocabulary of single bytes and a few words; returns its size."""
    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(33, 127)]
    merged = ["".join(merge.split()) for merge in MERGES]
    words = [*letters, *(letter + "</w>" for letter in letters), *merged, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    return len(words)


@pytest.fixture(scope="session")
def folder(written: tuple[Path, Path]) -> Path:
    """The small base in diffusers' format; not to be changed."""
    return written[0]


@pytest.fixture(scope="session")
def single(written: tuple[Path, Path]) -> Path:
    """The small base as one file; not to be changed."""
    return written[1]


@pytest.fixture
def own_folder(folder: Path, tmp_path: Path) -> Path:
    """A copy of the small base that a test may break."""
    return Path(shutil.copytree(folder, tmp_path / "base"))


@pytest.fixture
def configs(folder: Path, tmp_path: Path) -> Path:
    """The small base's configs and tokenizer without its weights, as they go with a single file."""
    return Path(shutil.copytree(folder, tmp_path / "configs", ignore=shutil.ignore_patterns("*.safetensors")))


@pytest.fixture(scope="session")
def tiny_sd() -> Path:
    """The embedded base."""
    return PROJECT_ROOT / "assets/tiny-sd"


@pytest.fixture(scope="session")
def denoiser(folder: Path) -> Any:
    """The small base's denoiser in fp64; tests leave it as it was."""
    return open_base(model_config(folder)).load_denoiser(dtype=torch.float64, device=CPU)


@pytest.fixture
def inputs() -> Callable[..., tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]]:
    """Noisy latents, timesteps and conditioning of some rows, a function of the seed."""

    def make(rows: int = 2, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
        draw = torch.Generator().manual_seed(seed)
        noisy = torch.randn(rows, 4, 8, 8, generator=draw).to(dtype)
        states = torch.randn(rows, TOKENS, WIDTH, generator=draw).to(dtype)
        timesteps = torch.randint(0, 1000, (rows,), generator=draw)
        return noisy, timesteps, {"encoder_hidden_states": states}

    return make
