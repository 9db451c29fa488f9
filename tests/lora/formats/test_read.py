"""Reading adapter files of others: both formats, their spellings, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lora_foundry.lora.formats.adapter import Adapter, AdapterError, AdapterFileError, LoraWeights
from lora_foundry.lora.formats.contents import read_contents
from lora_foundry.lora.formats.read import read_adapter
from tests.lora.formats import builders

QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"


def pair(key: str, names: tuple[str, str] = ("lora_down", "lora_up")) -> dict[str, Tensor]:
    return {f"{key}.{names[0]}.weight": torch.ones(2, 3), f"{key}.{names[1]}.weight": torch.ones(5, 2)}


def file(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path = folder / "in.safetensors"
    save_file(tensors, path, metadata=metadata)
    return path


def test_a_missing_alpha_means_scale_one(tmp_path: Path) -> None:
    weights = read_adapter(file(tmp_path, pair(KOHYA))).unet[QUERY]
    assert (weights.alpha, weights.rank, weights.scale) == (2.0, 2, 1.0)


def test_alpha_is_read_where_it_is_given(tmp_path: Path) -> None:
    path = file(tmp_path, pair(KOHYA) | {f"{KOHYA}.alpha": torch.tensor(0.5)})
    assert read_adapter(path).unet[QUERY].scale == 0.25


def test_dtypes_are_kept(tmp_path: Path) -> None:
    tensors = {key: tensor.to(torch.bfloat16) for key, tensor in pair(KOHYA).items()}
    weights = read_adapter(file(tmp_path, tensors)).unet[QUERY]
    assert (weights.down.dtype, weights.up.dtype) == (torch.bfloat16, torch.bfloat16)


@pytest.mark.parametrize("prefix", ["lora_te_text_model_", "lora_te1_text_model_", "lora_te_", "lora_te1_"])
def test_text_encoder_keys_come_out_with_text_model_however_they_were_written(prefix: str, tmp_path: Path) -> None:
    path = file(tmp_path, pair(f"{prefix}encoder_layers_0_self_attn_q_proj"))
    assert list(read_adapter(path).text_encoder) == [TEXT]


@pytest.mark.parametrize("middle", ["text_model.", ""])
def test_diffusers_text_encoder_keys_do_too(middle: str, tmp_path: Path) -> None:
    key = f"text_encoder.{middle}encoder.layers.0.self_attn.q_proj"
    assert list(read_adapter(file(tmp_path, pair(key, ("lora_A", "lora_B")))).text_encoder) == [TEXT]


@pytest.mark.parametrize(
    "names", [("lora_A", "lora_B"), ("lora.down", "lora.up"), ("lora_linear_layer.down", "lora_linear_layer.up")]
)
def test_all_spellings_of_diffusers_scripts_are_read(names: tuple[str, str], tmp_path: Path) -> None:
    weights = read_adapter(file(tmp_path, pair(f"unet.{QUERY}", names))).unet[QUERY]
    assert (tuple(weights.down.shape), tuple(weights.up.shape), weights.scale) == ((2, 3), (5, 2), 1.0)


@pytest.mark.parametrize(
    ("config", "alpha"),
    [
        ({"lora_alpha": 8}, 8.0),
        ({"lora_alpha": 8, "use_rslora": True}, 8.0 * 2**0.5),
        ({"lora_alpha": 8, "alpha_pattern": {"to_q": 3}}, 3.0),
        ({"lora_alpha": 8, "alpha_pattern": {"^to_q": 3}}, 8.0),
        ({"lora_alpha": 8, "alpha_pattern": {r"^down_blocks\..*to_q": 3}}, 3.0),
    ],
)
def test_alpha_comes_from_the_header_as_peft_would_apply_it(
    config: dict[str, object], alpha: float, tmp_path: Path
) -> None:
    header = json.dumps({f"unet.{field}": value for field, value in config.items()})
    path = file(tmp_path, pair(f"unet.{QUERY}", ("lora_A", "lora_B")), {"lora_adapter_metadata": header})
    assert read_adapter(path).unet[QUERY].alpha == pytest.approx(alpha, rel=1e-12)


def test_live_module_names_settle_what_the_grammar_does_not_know(tmp_path: Path) -> None:
    path = file(tmp_path, pair("lora_unet_odd_block_to_q"))
    with pytest.raises(AdapterFileError, match="lora_unet_odd_block_to_q"):
        read_adapter(path)
    assert list(read_adapter(path, ["odd.block.to_q", "other"]).unet) == ["odd.block.to_q"]


@pytest.mark.parametrize("key", [KOHYA, f"unet.{QUERY}"])
def test_modules_that_the_base_lacks_are_all_named(key: str, tmp_path: Path) -> None:
    names = ("lora_down", "lora_up") if key == KOHYA else ("lora_A", "lora_B")
    with pytest.raises(AdapterFileError, match=rf"(?s)\(2\).*{names[0]}.*no such module.*{names[1]}.*no such module"):
        read_adapter(file(tmp_path, pair(key, names)), ["mid_block.resnets.0.conv1"])


def test_all_faults_of_a_file_are_listed_at_once(tmp_path: Path) -> None:
    tensors = pair(KOHYA) | {
        f"{KOHYA}.hada_w1_a": torch.ones(1),
        "lora_unet_mid_block_nonsense.lora_down.weight": torch.ones(1, 1),
        "lora_unet_conv_in.lora_down.weight": torch.ones(2, 4, 3, 3),
        "lora_unet_conv_out.lora_down.weight": torch.ones(2, 4, 3, 3),
        "lora_unet_conv_out.lora_up.weight": torch.ones(4, 3, 1, 1),
        f"{KOHYA}.alpha": torch.ones(2),
    }
    with pytest.raises(AdapterFileError) as caught:
        read_adapter(file(tmp_path, tensors))
    for words in ("hada_w1_a", "nonsense", "conv_in: has down but no up", "conv_out: down", "alpha has 2 values"):
        assert words in str(caught.value)


@pytest.mark.parametrize("key", ["lora_unet_input_blocks_4_1_proj_in", "lora_unet_middle_block_1_proj_in"])
def test_names_of_the_original_unet_are_refused_with_the_way_out(key: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterFileError, match=r"original \(SGM\) UNet.*save_lora_weights"):
        read_adapter(file(tmp_path, pair(key)))


def test_an_embedding_in_the_file_is_no_part_of_the_adapter_and_is_named(tmp_path: Path) -> None:
    contents = read_contents(file(tmp_path, pair(KOHYA) | {"bundle_emb.tok.string_to_param.*": torch.ones(1)}))
    assert contents.embeddings == ("bundle_emb.tok.string_to_param.*",)
    assert list(contents.modules) == [("unet", QUERY)]
    assert contents.is_kohya


def test_a_strange_key_among_kohya_keys_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterFileError, match=r"optimizer_state\.x: not a key of a LoRA file"):
        read_adapter(file(tmp_path, pair(KOHYA) | {"optimizer_state.x": torch.ones(1)}))


OLD = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"


@pytest.mark.parametrize(
    ("start", "names"),
    [
        (QUERY, ("lora_A", "lora_B")),
        (QUERY, ("lora.down", "lora.up")),
        (f"base_model.model.{QUERY}", ("lora_A", "lora_B")),
        (f"base_model.model.{QUERY}", ("lora_A.default", "lora_B.default")),
        (f"base_model.model.unet.{QUERY}", ("lora_A", "lora_B")),
        (f"{OLD}.processor", ("to_q_lora.down", "to_q_lora.up")),
        (f"unet.{OLD}.processor", ("to_q_lora.down", "to_q_lora.up")),
    ],
)
def test_bare_peft_and_processor_keys_are_read(start: str, names: tuple[str, str], tmp_path: Path) -> None:
    weights = read_adapter(file(tmp_path, pair(start, names)))
    assert list(weights.unet) == [QUERY]
    assert (tuple(weights.unet[QUERY].down.shape), tuple(weights.unet[QUERY].up.shape)) == ((2, 3), (5, 2))


def test_a_processors_output_and_a_text_encoders_projections_get_their_names_of_today(tmp_path: Path) -> None:
    tensors = pair(f"{OLD}.processor", ("to_out_lora.down", "to_out_lora.up"))
    text = "text_encoder.text_model.encoder.layers.0.self_attn"
    tensors |= pair(text, ("to_q_lora.down", "to_q_lora.up")) | pair(text, ("to_out_lora.down", "to_out_lora.up"))
    adapter = read_adapter(file(tmp_path, tensors))
    assert list(adapter.unet) == [f"{OLD}.to_out.0"]
    assert set(adapter.text_encoder) == {TEXT, TEXT.replace("q_proj", "out_proj")}


def peft_folder(folder: Path, config: dict[str, object], start: str = f"base_model.model.{QUERY}") -> Path:
    folder.mkdir()
    save_file(pair(start, ("lora_A", "lora_B")), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, **config}))
    return folder


@pytest.mark.parametrize(
    ("config", "alpha"),
    [
        ({"lora_alpha": 8}, 8.0),
        ({"lora_alpha": 8, "use_rslora": True}, 8.0 * 2**0.5),
        ({"lora_alpha": 8, "alpha_pattern": {"to_q": 3}}, 3.0),
    ],
)
def test_a_peft_folder_is_read_with_the_alpha_of_its_configuration(
    config: dict[str, object], alpha: float, tmp_path: Path
) -> None:
    assert read_adapter(peft_folder(tmp_path / "peft", config)).unet[QUERY].alpha == pytest.approx(alpha, rel=1e-12)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"peft_type": "LOHA"}, "peft_type=LOHA, allowed is LORA"),
        ({"init_lora_weights": "pissa_niter_16"}, "rewrites the base"),
        ({"bias": "lora_only"}, "bias=lora_only, allowed is none"),
        ({"modules_to_save": ["conv_out"]}, "modules_to_save"),
    ],
)
def test_a_peft_folder_of_another_kind_is_refused(config: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterFileError, match=says):
        read_adapter(peft_folder(tmp_path / "peft", config))


def test_a_peft_folder_without_its_configuration_is_refused(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "peft", {})
    (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterFileError, match=r"adapter_config\.json: missing; alpha stands there"):
        read_adapter(folder)


def test_a_folder_that_diffusers_saved_is_read_and_another_is_refused(tmp_path: Path) -> None:
    save_file(pair(f"unet.{QUERY}", ("lora_A", "lora_B")), tmp_path / "pytorch_lora_weights.safetensors")
    assert list(read_adapter(tmp_path).unet) == [QUERY]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "adapter_model.bin").touch()
    with pytest.raises(AdapterFileError, match=r"folder with adapter_model\.bin; allowed is one with"):
        read_adapter(tmp_path / "other")


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), "LoHa"),
        (("lokr_w1", "lokr_w2_a", "lokr_w2_b"), "LoKr"),
        (("lora_down.weight", "lora_up.weight", "lora_mid.weight"), r"CP \(LoCon with a Tucker core\)"),
        (("oft_blocks",), "OFT"),
        (("diff", "diff_b"), "whole weights"),
        (("a1.weight", "b1.weight"), "GLoRA"),
    ],
)
def test_other_kinds_of_adapter_are_refused_by_their_kind(parts: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    tensors = {f"{KOHYA}.{part}": torch.ones(2, 2) for part in (*parts, "alpha")}
    with pytest.raises(AdapterFileError, match=rf"another kind, {kind}.*allowed is plain LoRA"):
        read_adapter(file(tmp_path, tensors))


def test_a_language_model_adapter_is_no_image_adapter(tmp_path: Path) -> None:
    key = "base_model.model.model.layers.0.self_attn.q_proj"
    with pytest.raises(AdapterFileError, match=r"no image adapter.*lora_unet_"):
        read_adapter(file(tmp_path, pair(key, ("lora_A", "lora_B"))))


@pytest.mark.parametrize("name", ["x.pt", "x.bin", "x.ckpt", "x"])
def test_pickles_are_refused_unopened(name: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterFileError, match=r"allowed is \.safetensors only"):
        read_adapter(tmp_path / name)


def test_a_pickle_under_a_false_name_and_a_torn_file_are_refused(tmp_path: Path) -> None:
    disguised = tmp_path / "x.safetensors"
    torch.save({"a": torch.ones(1)}, disguised)
    with pytest.raises(AdapterFileError, match="not an intact safetensors file"):
        read_adapter(disguised)
    torn = file(tmp_path, pair(KOHYA))
    torn.write_bytes(torn.read_bytes()[:-4])
    with pytest.raises(AdapterFileError, match="not an intact safetensors file"):
        read_adapter(torn)


def test_a_missing_file_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such adapter file"):
        read_adapter(tmp_path / "none.safetensors")


def test_an_unreadable_configuration_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, pair(f"unet.{QUERY}", ("lora_A", "lora_B")), {"lora_adapter_metadata": "{"})
    with pytest.raises(AdapterFileError, match="is not JSON"):
        read_adapter(path)


def test_shapes_that_do_not_fit_are_listed_when_an_adapter_is_made() -> None:
    good = builders.lora((4, 3), 2, 1.0)
    bad = {
        "a": LoraWeights(torch.ones(2, 3), torch.ones(4, 3), 1.0),
        "b": LoraWeights(torch.ones(2, 3, 3, 3), torch.ones(4, 2), 1.0),
        "c": LoraWeights(good.down, good.up, float("nan")),
        "d": LoraWeights(good.down, good.up, 1.0, torch.ones(3, 1)),
    }
    with pytest.raises(AdapterError, match=r"\(4\)") as caught:
        Adapter(bad)
    assert all(f"unet.{name}: " in str(caught.value) for name in bad)
