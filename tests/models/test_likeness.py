"""``validation.likeness``: embeddings of pictures by encoders as transformers saves them, small and random here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
)

from lora_foundry.config import ConfigError
from lora_foundry.config.compose import compose_job
from lora_foundry.config.logged import of_validation
from lora_foundry.models.likeness import Likeness, folder_problems, mean_cosine
from lora_foundry.models.protocol import BaseError
from tests.phrases import NO_JSON

CPU = torch.device("cpu")
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


def _clip(folder: Path) -> Path:
    torch.manual_seed(0)
    vision = {**SMALL, "image_size": 32, "patch_size": 16, "projection_dim": 12}
    text = {**SMALL, "vocab_size": 20, "projection_dim": 12}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    CLIPImageProcessor(**SIZES).save_pretrained(folder)
    return folder


def _dino(folder: Path) -> Path:
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**SMALL, image_size=32, patch_size=16)).save_pretrained(folder)
    BitImageProcessor(**SIZES).save_pretrained(folder)
    return folder


def _pictures(count: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (48, 48, 3), generator=draw, dtype=torch.uint8) for _ in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(("made", "width"), [(_clip, 12), (_dino, 16)])
def test_pictures_become_unit_vectors_whatever_their_company(made: object, width: int, tmp_path: Path) -> None:
    folder = made(tmp_path / "encoder")  # type: ignore[operator]
    assert folder_problems(folder) == []
    encoder, pictures = Likeness(folder, CPU), _pictures(18)
    found = encoder.embed(pictures)
    assert found.shape == (18, width)
    assert found.norm(dim=1) == pytest.approx(torch.ones(18))
    torch.testing.assert_close(encoder.embed(pictures[3:4]), found[3:4], rtol=1e-4, atol=1e-5)
    assert float(found[0] @ found[1]) < 0.9999


@pytest.mark.slow
def test_the_embedding_of_clip_is_its_own_image_feature(tmp_path: Path) -> None:
    folder, picture = _clip(tmp_path / "clip"), _pictures(1)
    model = CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessor.from_pretrained(folder)(images=[picture[0].numpy()], return_tensors="pt")[
        "pixel_values"
    ]
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(pixels).pooler_output)
    expected = torch.nn.functional.normalize(seen, dim=1)
    torch.testing.assert_close(Likeness(folder, CPU).embed(picture), expected, rtol=1e-4, atol=1e-5)


def test_likeness_is_the_mean_cosine_of_all_pairs() -> None:
    some, others = (torch.nn.functional.normalize(torch.randn(n, 5), dim=1) for n in (3, 4))
    pairs = [float(a @ b) for a in some for b in others]
    assert mean_cosine(some, others) == pytest.approx(sum(pairs) / 12, abs=1e-6)


def test_a_folder_that_is_no_encoder_is_told_from_its_files(tmp_path: Path) -> None:
    (line,) = folder_problems(tmp_path / "nowhere")
    assert "nowhere is missing; allowed is a local folder of an image encoder" in line
    (line,) = folder_problems(tmp_path)
    assert "has no config.json, preprocessor_config.json, *.safetensors" in line
    for name in ("preprocessor_config.json", "model.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text("{")
    assert NO_JSON in folder_problems(tmp_path)[0]
    (tmp_path / "config.json").write_text("{}")
    assert "names no model_type" in folder_problems(tmp_path)[0]


@pytest.mark.slow
def test_a_model_of_text_and_one_of_no_kind_are_refused_in_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    BertModel(BertConfig(**SMALL, vocab_size=20)).save_pretrained(folder)
    CLIPImageProcessor(**SIZES).save_pretrained(folder)
    with pytest.raises(BaseError, match=r"validation\.likeness: .*bert cannot be used as an image encoder"):
        Likeness(folder, CPU).embed(_pictures(1))
    (folder / "config.json").write_text('{"model_type": "nothing-known"}')
    with pytest.raises(BaseError, match="cannot be used as an image encoder"):
        Likeness(folder, CPU).embed(_pictures(1))


@pytest.mark.slow
def test_an_encoder_needs_something_to_look_at() -> None:
    with pytest.raises(ConfigError, match=r"validation\.likeness=/x: nothing is drawn with the adapter"):
        compose_job("validation.likeness=/x", "sample=none")
    with pytest.raises(ConfigError, match="nothing is drawn with the adapter"):
        compose_job("validation.likeness=/x", "sample.scales=[0.0]")
    assert "val/likeness" in of_validation(compose_job("validation.likeness=/x").validation)
