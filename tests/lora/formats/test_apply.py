"""The plain merge that files are checked with: against the formula, and without a trace afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lora_foundry.lora.formats.adapter import Adapter, AdapterError
from lora_foundry.lora.formats.apply import apply_adapter, merged
from tests.lora.formats import builders


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(6, 5)
        self.conv = nn.Conv2d(3, 4, 3, padding=1, stride=2)


def test_a_linear_update_adds_the_low_rank_branch_to_the_output() -> None:
    net, weights = Net(), builders.lora((5, 6), 2, 3.0)
    x = torch.randn(7, 6)
    branch = x @ weights.down.t() @ weights.up.t() * (0.5 * 3.0 / 2)
    wanted = net.linear(x) + branch
    with apply_adapter(net, Adapter({"linear": weights}), 0.5):
        torch.testing.assert_close(net.linear(x), wanted)


def test_a_convolution_update_is_a_narrow_convolution_then_a_1x1() -> None:
    net, weights = Net(), builders.lora((4, 3, 3, 3), 2, 3.0)
    x = torch.randn(2, 3, 8, 8)
    narrow = nn.functional.conv2d(x, weights.down, padding=1, stride=2)
    wanted = net.conv(x) + nn.functional.conv2d(narrow, weights.up) * (3.0 / 2)
    with apply_adapter(net, Adapter({"conv": weights})):
        torch.testing.assert_close(net.conv(x), wanted)


@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 3, 3)])
def test_dora_sets_each_outputs_norm(shape: tuple[int, ...]) -> None:
    magnitude = (torch.rand(5) + 0.5).reshape(-1, *([1] * (len(shape) - 1)))
    weights = replace(builders.lora(shape, 2, 3.0), dora_scale=magnitude)
    base = torch.randn(shape)
    full, half = merged(base, weights), merged(base, weights, 0.5)
    torch.testing.assert_close(full.flatten(1).norm(dim=1), magnitude.flatten())
    torch.testing.assert_close(half, (base + full) / 2)


def test_afterwards_the_weights_are_bit_equal_even_after_an_error() -> None:
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    adapter = Adapter({"linear": builders.lora((5, 6), 2, 3.0), "conv": builders.lora((4, 3, 3, 3), 2, 3.0)})

    def fail_inside() -> None:
        with apply_adapter(net, adapter):
            assert not torch.equal(net.linear.weight, before["linear.weight"])
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_weights_are_set_aside_and_not_copied() -> None:
    net = Net()
    before = net.linear.weight.data_ptr()
    with apply_adapter(net, Adapter({"linear": builders.lora((5, 6), 2, 3.0)})):
        assert net.linear.weight.data_ptr() != before, "a copy of a large base's weights takes seconds"
    assert net.linear.weight.data_ptr() == before


def test_modules_that_do_not_fit_are_all_named_and_nothing_is_changed() -> None:
    net = Net()
    before = net.linear.weight.clone()
    adapter = Adapter({name: builders.lora((5, 6), 2, 3.0) for name in ("linear", "conv", "gone")})
    with pytest.raises(AdapterError, match=r"(?s)\(2\).*conv: the layer's weight is .*gone: Net has no such layer"):
        apply_adapter(net, adapter).__enter__()
    assert torch.equal(net.linear.weight, before)


def test_a_text_encoder_is_found_with_and_without_the_text_model_level() -> None:
    layer = nn.ModuleDict({"encoder": nn.ModuleDict({"fc1": nn.Linear(3, 3)})})
    adapter = Adapter(text_encoder={"encoder.fc1": builders.lora((3, 3), 1, 1.0)})
    for model in (layer, nn.ModuleDict({"text_model": layer})):
        before = layer["encoder"]["fc1"].weight.clone()
        with apply_adapter(None, adapter, text_encoder=model):
            assert not torch.equal(layer["encoder"]["fc1"].weight, before)
