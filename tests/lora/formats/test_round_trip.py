"""What is written is what is read, for any adapter; and a file that differs is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from lora_foundry.lora.formats.adapter import Adapter, ExportError, LoraWeights
from lora_foundry.lora.formats.apply import merged
from lora_foundry.lora.formats.check import check_written
from lora_foundry.lora.formats.diffusers_file import folded, write_diffusers
from lora_foundry.lora.formats.kohya import write_kohya
from lora_foundry.lora.formats.read import read_adapter
from tests.lora.formats import builders

UNET = ("conv_in", "mid_block.resnets.1.conv2", "up_blocks.1.attentions.0.transformer_blocks.3.attn2.to_out.0")
UNET += ("down_blocks.2.downsamplers.0.conv", "time_embedding.linear_1", "mid_block.attentions.0.proj_in")
LAYER = "text_model.encoder.layers.7"
TEXT = (*(f"{LAYER}.self_attn.{part}_proj" for part in ("q", "k", "v", "out")), f"{LAYER}.mlp.fc1")
WRITERS = pytest.mark.parametrize("write", [write_kohya, write_diffusers])


@st.composite
def weights(draw: st.DrawFn, alpha: float | None = None) -> LoraWeights:
    kernel = draw(st.sampled_from([(), (1, 1), (3, 3)]))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 5)), *kernel)
    given_alpha = draw(st.floats(0.0625, 512.0, width=32)) if alpha is None else alpha
    made = builders.lora(shape, draw(st.integers(1, 9)), given_alpha, seed=draw(st.integers(0, 99)))
    if draw(st.booleans()):
        return made
    return replace(made, dora_scale=torch.rand(shape[0], *([1] * (len(shape) - 1))) + 0.5)


@st.composite
def adapters(draw: st.DrawFn, *, one_alpha: bool) -> Adapter:
    alpha = draw(st.floats(0.0625, 512.0, width=32)) if one_alpha else None
    some = {name: draw(weights(alpha)) for name in draw(st.lists(st.sampled_from(UNET), min_size=1, unique=True))}
    first = {name: draw(weights(alpha)) for name in draw(st.lists(st.sampled_from(TEXT), unique=True))}
    second = {name: draw(weights(alpha)) for name in TEXT} if draw(st.booleans()) else {}
    return Adapter(some, first, second)


def assert_same(found: Adapter, wanted: Adapter, dtype: torch.dtype) -> None:
    got = {(component, name): w for component, name, w in found.modules()}
    assert set(got) == {(component, name) for component, name, _ in wanted.modules()}
    for component, name, expected in wanted.modules():
        read = got[component, name]
        assert read.alpha == expected.alpha
        for part in ("down", "up", "dora_scale"):
            tensor, original = getattr(read, part), getattr(expected, part)
            assert (tensor is None) == (original is None)
            if tensor is not None:
                torch.testing.assert_close(tensor, original.to(dtype), rtol=0, atol=0)


@pytest.mark.slow
@settings(max_examples=20)
@given(adapter=adapters(one_alpha=True), dtype=st.sampled_from([torch.float16, torch.bfloat16]))
def test_any_adapter_of_one_alpha_comes_back_bit_for_bit(adapter: Adapter, dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_kohya(path, adapter, builders.sdxl_metadata(), dtype)
    assert_same(read_adapter(path), adapter, dtype)
    check_written(path, adapter)


@pytest.mark.slow
@settings(max_examples=10)
@given(adapter=adapters(one_alpha=False), dtype=st.sampled_from([torch.float16, torch.bfloat16]))
def test_any_scale_in_a_diffusers_file_is_in_its_up_with_or_without_the_header(
    adapter: Adapter, dtype: torch.dtype, tmp_path: Path
) -> None:
    path, bare = tmp_path / "a.safetensors", tmp_path / "bare.safetensors"
    write_diffusers(path, adapter, builders.sdxl_metadata(), dtype)
    assert_same(read_adapter(path), folded(adapter), dtype)
    check_written(path, adapter)
    with safe_open(path, framework="pt") as file:
        save_file({key: file.get_tensor(key) for key in file.keys()}, bare)  # noqa: SIM118
    assert_same(read_adapter(bare), folded(adapter), dtype)
    for component, name, weights in folded(adapter).modules():
        before = getattr(adapter, component)[name]
        assert weights.scale == 1.0
        torch.testing.assert_close(weights.up.double(), before.up.double() * before.scale, rtol=1e-6, atol=0)


def test_mixed_alphas_in_kohya_become_one_alpha_and_the_same_update(tmp_path: Path) -> None:
    adapter = Adapter(
        {name: builders.lora((6, 5), 4, alpha) for name, alpha in zip(UNET, (4.0, 1.0, 4.0, 7.0), strict=False)}
    )
    path = tmp_path / "a.safetensors"
    write_kohya(path, adapter, builders.metadata(), torch.float16)
    found = read_adapter(path)
    check_written(path, adapter)
    assert {w.alpha for w in found.unet.values()} == {4.0}
    for name, expected in adapter.unet.items():
        zero = torch.zeros(6, 5)
        update = merged(zero, expected)
        assert (merged(zero, found.unet[name]) - update).norm() < 1e-3 * update.norm()


def small() -> Adapter:
    convolution = builders.lora((4, 3, 3, 3), 2, 3.0)
    return Adapter(
        {UNET[0]: convolution, UNET[4]: builders.lora((4, 3), 2, 3.0)}, {TEXT[0]: builders.lora((4, 4), 2, 3.0)}
    )


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, path, metadata=metadata)


@WRITERS
def test_a_changed_value_is_found(write: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path, small(), builders.metadata(), torch.float16)

    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        key = next(key for key in tensors if key.endswith(("lora_up.weight", "lora_B.weight")))
        tensors[key].view(-1)[0] += 0.01

    rewritten(path, nudge)
    with pytest.raises(ExportError, match=r"(?s)up differs in 1 of .*sshs_model_hash"):
        check_written(path, small())


@WRITERS
def test_a_missing_module_an_extra_module_and_another_alpha_are_found(
    write: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    write(path, small(), builders.metadata(), torch.float16)
    text = small().text_encoder
    wider = Adapter({**small().unet, UNET[1]: builders.lora((4, 3), 2, 3.0)}, text)
    with pytest.raises(ExportError, match=r"\(1\).*\n.*mid_block\.resnets\.1\.conv2: missing from the file"):
        check_written(path, wider)
    with pytest.raises(ExportError, match="conv_in: in the file but not in the adapter"):
        check_written(path, Adapter({UNET[4]: small().unet[UNET[4]]}, text))
    other = {name: replace(w, alpha=1.5) for name, w in small().unet.items()}
    with pytest.raises(ExportError, match=r"(?s)alpha is 3\.0, should be 1\.5|up differs in"):
        check_written(path, Adapter(other, text))


@WRITERS
def test_a_lost_dora_scale_is_found(write: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path, Adapter({UNET[4]: builders.lora((4, 3), 2, 3.0)}), builders.metadata(), torch.float16)
    dora = replace(builders.lora((4, 3), 2, 3.0), dora_scale=torch.ones(4, 1))
    with pytest.raises(ExportError, match="dora_scale is missing"):
        check_written(path, Adapter({UNET[4]: dora}))


def test_a_header_that_would_apply_alpha_twice_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_diffusers(path, small(), builders.metadata(), torch.float16)
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = dict(file.metadata())
    fields = json.loads(header["lora_adapter_metadata"])
    assert {value for key, value in fields.items() if key.endswith("lora_alpha")} == {2}, "the rank"
    header["lora_adapter_metadata"] = json.dumps(fields | {"unet.lora_alpha": 3.0})
    save_file(tensors, path, metadata=header)
    with pytest.raises(ExportError, match=r"alpha is 3\.0, should be 2\.0"):
        check_written(path, small())
