"""What a Stable Diffusion's forward relies on, checked in the configs and the weights' headers. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_foundry.models.families.sd.noise import schedule_problems

Configs = Mapping[str, Mapping[str, Any]]
"""A part's name to its config, with :data:`DEFAULTS` filled in."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 1280,
    },
    "vae": {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": [64],
        "latent_channels": 4,
        "scaling_factor": 0.18215,
    },
    "text_encoder": {"hidden_size": 512, "vocab_size": 49408, "max_position_embeddings": 77},
    "scheduler": {},
}
"""What diffusers and transformers take where a config does not say it."""
_FILES = {part: f"{part}/config.json" for part in ("unet", "vae", "text_encoder")}
_TEXT_CLASSES = ("CLIPTextModel", "CLIPTextModelWithProjection")
# A further input that the forward would need, or another meaning of one.
_UNSUPPORTED = {
    "class_embed_type": "class labels (as of an upscaler)",
    "num_class_embeds": "class labels (as of an upscaler)",
    "addition_embed_type": "added conditions (text_time is SDXL)",
    "encoder_hid_dim_type": "image or projected text states",
    "encoder_hid_dim": "projected text states",
}
_CHANNELS = {9: "an inpainting model", 8: "a model that edits pictures (InstructPix2Pix)", 5: "a depth model"}
_CHANNELS[7] = "an upscaler"


def with_defaults(configs: Configs) -> dict[str, dict[str, Any]]:
    """``configs`` with what diffusers and transformers would take where they are silent."""
    return {part: {**DEFAULTS[part], **config} for part, config in configs.items()}


def config_problems(configs: Configs, root: Path, wanted_prediction: str) -> list[str]:
    """A line for each fact of the configs that training, drawing or encoding here would stumble over.

    Args:
        configs: Of all parts, with defaults.
        root: The base's folder, with its tokenizer.
        wanted_prediction: ``model.prediction_type``.
    """
    problems = [
        *(line for part in _FILES for line in _wrong_types(part, configs[part])),
        *schedule_problems(configs["scheduler"], wanted_prediction),
    ]
    if problems:
        return problems
    return [*_unet(configs), *_vae(configs["vae"]), *_text(configs["text_encoder"], root)]


def weight_problems(configs: Configs, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]) -> list[str]:
    """A line for each weight whose shape contradicts the configs; ``shapes`` by part and name in either layout."""
    unet, vae, text = configs["unet"], configs["vae"], configs["text_encoder"]
    first = ("conv_in.weight", "model.diffusion_model.input_blocks.0.0.weight")  # a folder's and a single file's names
    last = ("conv_out.weight", "model.diffusion_model.out.2.weight")
    words, places = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
    facts = (
        ("unet", first, 1, unet["in_channels"], "in_channels"),
        ("unet", last, 0, unet["out_channels"], "out_channels"),
        ("unet", ("attn2.to_k.weight",), 1, unet["cross_attention_dim"], "cross_attention_dim"),
        ("vae", ("decoder.conv_in.weight",), 1, vae["latent_channels"], "latent_channels"),
        ("text_encoder", (words,), 1, text["hidden_size"], "hidden_size"),
        ("text_encoder", (words,), 0, text["vocab_size"], "vocab_size"),
        ("text_encoder", (places,), 0, text["max_position_embeddings"], "max_position_embeddings"),
    )
    problems = []
    for part, ends, dimension, said, key in facts:
        found = next((s for name, s in shapes[part].items() if _is_named(name, ends)), None)
        if found is not None and (len(found) <= dimension or found[dimension] != said):
            got = found[dimension] if len(found) > dimension else found
            hint = f" ({_CHANNELS[got]})" if key.endswith("_channels") and got in _CHANNELS else ""
            problems.append(f"{_FILES[part]}: {key} is {said}, but the weights have {got}{hint}")
    return problems


def _is_named(name: str, ends: tuple[str, ...]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _wrong_types(part: str, config: Mapping[str, Any]) -> list[str]:
    found = ((key, config[key], _allowed(default, config[key])) for key, default in DEFAULTS[part].items())
    return [f"{_FILES[part]}: {key}: got {got!r}, allowed is {allowed}" for key, got, allowed in found if allowed]


def _allowed(default: object, value: object) -> str | None:
    """What is allowed where ``value`` is not of the kind of ``default``; None where it is."""
    if isinstance(default, list):
        sound = isinstance(value, list) and bool(value) and all(map(_is_count, value))
        return None if sound else "a list of whole numbers above 0"
    if isinstance(default, float):
        return None if isinstance(value, (int, float)) and value > 0 else "a number above 0"
    if isinstance(default, int):
        return None if _is_count(value) else "a whole number above 0"
    return None if value == default else str(default)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _unet(configs: Configs) -> list[str]:
    unet, latents = configs["unet"], configs["vae"]["latent_channels"]
    width = configs["text_encoder"]["hidden_size"]
    problems = []
    for key in ("in_channels", "out_channels"):
        got = unet[key]
        if got != latents:
            kind = f", so this is {_CHANNELS[got]}" if got in _CHANNELS else ""
            problems.append(
                f"{_FILES['unet']}: {key}: got {got}{kind}; allowed is {latents}, the latent channels of its VAE: take "
                "the model that draws from text alone"
            )
    if unet["cross_attention_dim"] != width:
        problems.append(
            f"{_FILES['unet']}: cross_attention_dim: got {unet['cross_attention_dim']}, allowed is {width}, the width "
            "of its text encoder (text_encoder/config.json: hidden_size)"
        )
    problems.extend(
        f"{_FILES['unet']}: {key}: got {unet[key]!r}, {meaning}; allowed is null"
        for key, meaning in _UNSUPPORTED.items()
        if unet.get(key) is not None
    )
    return problems


def _vae(vae: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{_FILES['vae']}: {key}: got {vae[key]}, allowed is 3 (red, green, blue)"
        for key in ("in_channels", "out_channels")
        if vae[key] != 3
    ]
    problems.extend(
        f"{_FILES['vae']}: {key}: got {vae[key]!r}, allowed is null (latents are scaled by scaling_factor alone)"
        for key in ("latents_mean", "latents_std")
        if vae.get(key) is not None
    )
    return problems


def _text(text: Mapping[str, Any], root: Path) -> list[str]:
    named = text.get("architectures") or []
    problems = []
    if named and not set(named) & set(_TEXT_CLASSES):
        problems.append(f"{_FILES['text_encoder']}: architectures: got {named[0]}, allowed is {_TEXT_CLASSES[0]}")
    size = _vocabulary(root / "tokenizer")
    if size is not None and size > text["vocab_size"]:
        problems.append(
            f"tokenizer: {size} tokens, but {_FILES['text_encoder']} has vocab_size {text['vocab_size']}: "
            "they belong to different models"
        )
    return problems


def _vocabulary(folder: Path) -> int | None:
    """One more than the largest token of a tokenizer; None where its files do not say."""
    try:
        if (folder / "tokenizer.json").is_file():
            whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            added = [token["id"] for token in whole.get("added_tokens", [])]
            return 1 + max([*whole["model"]["vocab"].values(), *added])
        return 1 + max(json.loads((folder / "vocab.json").read_text(encoding="utf-8")).values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # an unreadable tokenizer is refused where it is read
