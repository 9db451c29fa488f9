"""What the layers of a base of several networks are called."""

from __future__ import annotations

import pytest
from torch import nn

from lora_foundry.config.components import full_name, named_layers, split_name

NAMES = ("unet", "text_encoder")


@pytest.mark.parametrize(
    ("component", "name", "full"),
    [("unet", "mid.0", "mid.0"), ("text_encoder", "layers.1", "text_encoder.layers.1"), ("unet", "", "")],
)
def test_the_first_ones_bear_their_own_names_and_others_their_components_before(
    component: str, name: str, full: str
) -> None:
    assert full_name(NAMES, component, name) == full
    assert split_name(NAMES, full) == (component, name)


def test_alone_a_name_is_a_layers_own_whatever_it_begins_with() -> None:
    assert split_name(("unet",), "text_encoder.layers.1") == ("unet", "text_encoder.layers.1")


def test_every_layer_is_listed_once() -> None:
    networks = {"unet": nn.Sequential(nn.Linear(1, 1)), "text_encoder": nn.Sequential(nn.Linear(1, 1))}
    assert [name for name, _ in named_layers(networks)] == ["", "0", "text_encoder", "text_encoder.0"]


def test_two_layers_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"text_encoder: two layers of the base are called so"):
        list(named_layers({"unet": nn.ModuleDict({"text_encoder": nn.Linear(1, 1)}), "text_encoder": nn.Linear(1, 1)}))
