"""Presets and endings name the layers that they say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lora_foundry.config.schema import PRESETS
from lora_foundry.models import open_base
from lora_foundry.models.targets import resolve_targets, target_layers
from tests.models.conftest import CPU, model_config

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


@pytest.mark.slow
def test_attention_names_queries_keys_values_and_outputs(denoiser: Any) -> None:
    names = denoiser.target_names("attention")
    # two levels down with one transformer, two up with two, one in the middle; two attentions of four layers each
    assert len(names) == (2 * 1 + 2 * 2 + 1) * 8
    assert names == sorted(names)
    block = [name.removeprefix(f"{BLOCK}.") for name in names if name.startswith(BLOCK)]
    projections = ["to_k", "to_out.0", "to_q", "to_v"]
    assert block == [f"{attention}.{p}" for attention in ("attn1", "attn2") for p in projections]


def test_attention_mlp_adds_the_two_feed_forward_layers(denoiser: Any) -> None:
    added = set(denoiser.target_names("attention-mlp")) - set(denoiser.target_names("attention"))
    assert {name.rsplit("transformer_blocks.0.", 1)[1] for name in added} == {"ff.net.0.proj", "ff.net.2"}
    assert len(added) == 7 * 2


def test_all_linear_adds_projections_and_time_embeddings_and_no_other_convolution(denoiser: Any) -> None:
    names = set(denoiser.target_names("all-linear"))
    added = names - set(denoiser.target_names("attention-mlp"))
    assert {name.rsplit(".", 1)[1] for name in added} == {
        "proj_in",
        "proj_out",
        "time_emb_proj",
        "linear_1",
        "linear_2",
    }
    assert "down_blocks.0.attentions.0.proj_in" in names
    linear = {n for n, m in denoiser.module.named_modules() if isinstance(m, nn.Linear)}
    convolutions = {n for n, m in denoiser.module.named_modules() if isinstance(m, nn.Conv2d)}
    assert linear < names
    assert {name.rsplit(".", 1)[1] for name in names & convolutions} == {"proj_in", "proj_out"}


def test_all_names_every_linear_layer_and_convolution(denoiser: Any) -> None:
    expected = sorted(n for n, m in denoiser.module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d))
    assert denoiser.target_names("all") == expected


def test_every_preset_of_the_schema_is_known_and_they_grow(denoiser: Any) -> None:
    sets = [set(denoiser.target_names(preset)) for preset in PRESETS]
    by_name = dict(zip(PRESETS, sets, strict=True))
    for chain in (("attention", "attention-mlp", "all-linear", "all"), ("attention-mlp", "all-blocks", "all")):
        assert all(by_name[small] < by_name[large] for small, large in pairwise(chain))


def test_endings_match_at_dots_alone(denoiser: Any) -> None:
    names = denoiser.target_names(("attn1.to_q", "conv_in"))
    assert len(names) == 7 + 1
    assert "conv_in" in names
    assert all(name == "conv_in" or name.endswith(".attn1.to_q") for name in names)
    with pytest.raises(ValueError, match="'o_q'"):
        denoiser.target_names(["o_q"])


def test_a_whole_name_is_an_ending_too(denoiser: Any) -> None:
    assert denoiser.target_names([f"{BLOCK}.attn1.to_q"]) == [f"{BLOCK}.attn1.to_q"]


def test_endings_that_match_nothing_are_listed_at_once_with_near_ones(denoiser: Any) -> None:
    with pytest.raises(ValueError, match="to_qq") as error:
        denoiser.target_names(["to_k", "to_qq", "ff.net.0.porj"])
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert "'to_qq'" in lines[0]
    assert "to_q" in lines[0].split("near ones: ")[1].split(", ")
    assert "ff.net.0.proj" in lines[1].split("near ones: ")[1]


def test_a_block_or_a_norm_is_no_target(denoiser: Any) -> None:
    with pytest.raises(ValueError, match=r"no linear layer or convolution.*near ones: .*attn1\.to"):
        denoiser.target_names(["attn1"])
    with pytest.raises(ValueError, match="no linear layer or convolution"):
        denoiser.target_names(["norm1"])


def test_nothing_asked_for_and_an_unknown_preset_are_refused(denoiser: Any) -> None:
    with pytest.raises(ValueError, match="empty list"):
        denoiser.target_names([])
    with pytest.raises(ValueError, match="'atention', allowed is one of attention, attention-mlp, all-linear, all-b"):
        denoiser.target_names("atention")


def test_a_preset_that_finds_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="matches no layer"):
        resolve_targets(target_layers({"": nn.Sequential(nn.Linear(2, 2))}), "attention")


def test_names_stay_the_same_after_layers_were_replaced(folder: Path) -> None:
    denoiser = open_base(model_config(folder)).load_denoiser(dtype=torch.float32, device=CPU)
    before = denoiser.target_names("attention")
    attention = denoiser.module.get_submodule(f"{BLOCK}.attn1")
    attention.to_q = nn.Sequential(attention.to_q)  # an adapter's layer around the base's
    assert denoiser.target_names("attention") == before


def test_kinds_of_layers() -> None:
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Conv2d(2, 2, 1), "c": nn.Conv2d(2, 2, 3), "d": nn.SiLU()})
    assert target_layers({"": module}) == {"a": "linear", "b": "conv1x1", "c": "conv"}
