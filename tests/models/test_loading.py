"""Both layouts give the same base, and its parts are those of diffusers' own pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from lora_foundry.models import open_base
from lora_foundry.models.families.sd.encoders import LazyModule
from tests.models.conftest import CPU, TOKENS, WIDTH, model_config

CAPTIONS = ["red heart", "", "a pizza with far more words than the text encoder has room for"]


def pixels(rows: int = 2) -> torch.Tensor:
    return torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.slow
def test_a_single_file_denoises_exactly_as_the_folder(folder: Path, single: Path, inputs: Callable) -> None:
    whole = open_base(model_config(folder)).load_denoiser(dtype=torch.float32, device=CPU)
    one = open_base(model_config(single, config=str(folder))).load_denoiser(dtype=torch.float32, device=CPU)
    with torch.no_grad():
        expected, got = whole.denoise(*inputs()), one.denoise(*inputs())
    assert torch.equal(got, expected)
    assert expected.std() > 0.01
    assert one.layers == whole.layers
    assert torch.equal(one.process.alphas_cumprod, whole.process.alphas_cumprod)


@pytest.mark.slow
def test_a_single_file_encodes_exactly_as_the_folder(folder: Path, single: Path) -> None:
    bases = [open_base(model_config(folder)), open_base(model_config(single, config=str(folder)))]
    texts = [b.caption_encoder(dtype=torch.float32, device=CPU).encode(CAPTIONS) for b in bases]
    latents = [b.image_encoder(dtype=torch.float32, device=CPU).encode(pixels()) for b in bases]
    pictures = [b.load_decoder(dtype=torch.float32, device=CPU).decode(latents[0]) for b in bases]
    assert torch.equal(texts[0]["encoder_hidden_states"], texts[1]["encoder_hidden_states"])
    assert torch.equal(latents[0], latents[1])
    assert torch.equal(pictures[0], pictures[1])


@pytest.mark.slow
def test_a_pickled_checkpoint_of_tensors_alone_loads(single: Path, configs: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.ckpt"
    torch.save({"state_dict": load_file(single)}, path)
    got = open_base(model_config(path, config=str(configs))).caption_encoder(dtype=torch.float32, device=CPU)
    same = open_base(model_config(single, config=str(configs))).caption_encoder(dtype=torch.float32, device=CPU)
    states = [encoder.encode(CAPTIONS)["encoder_hidden_states"] for encoder in (got, same)]
    assert torch.equal(*states)


@pytest.mark.slow
def test_latents_are_the_posteriors_mode_scaled(folder: Path) -> None:
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    with torch.no_grad():
        mean = vae.encode(pixels()).latent_dist.mean
    got = open_base(model_config(folder)).image_encoder(dtype=torch.float32, device=CPU).encode(pixels())
    assert got.shape == (2, 4, 8, 8)
    assert torch.allclose(got, mean * 0.5)  # the scaling factor in conftest


@pytest.mark.slow
def test_decoding_undoes_the_scale_and_gives_bytes(folder: Path) -> None:
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.5
    with torch.no_grad():
        expected = (vae.decode(latents / 0.5).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1) * 255
    got = open_base(model_config(folder)).load_decoder(dtype=torch.float32, device=CPU).decode(latents)
    assert got.dtype == torch.uint8
    assert got.shape == (2, 32, 32, 3)
    assert (got.float() - expected).abs().max() <= 0.51
    assert got.float().std() > 1


def test_captions_are_padded_and_encoded_as_by_transformers(folder: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=TOKENS)
    ids = tokenizer(CAPTIONS, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = CLIPTextModel.from_pretrained(folder / "text_encoder")(ids).last_hidden_state
    got = open_base(model_config(folder)).caption_encoder(dtype=torch.float32, device=CPU).encode(CAPTIONS)
    assert got.keys() == {"encoder_hidden_states"}
    assert got["encoder_hidden_states"].shape == (3, TOKENS, WIDTH)
    assert torch.equal(got["encoder_hidden_states"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_every_part_computes_in_the_dtype_that_was_asked_for(
    folder: Path, single: Path, dtype: torch.dtype, inputs: Callable
) -> None:
    for model in (model_config(folder), model_config(single, config=str(folder))):
        base = open_base(model)
        assert base.caption_encoder(dtype=dtype, device=CPU).encode([""])["encoder_hidden_states"].dtype == dtype
        assert base.image_encoder(dtype=dtype, device=CPU).encode(pixels()).dtype == dtype
        denoiser = base.load_denoiser(dtype=dtype, device=CPU)
        assert {p.dtype for p in denoiser.module.parameters()} == {dtype}
        with torch.no_grad():
            assert denoiser.denoise(*inputs(dtype=torch.float32)).dtype == dtype


@pytest.mark.slow
def test_a_half_precision_variant_is_found(own_folder: Path, folder: Path) -> None:
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        path = own_folder / part / f"{stem}.safetensors"
        half = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(half, own_folder / part / f"{stem}.fp16.safetensors", metadata={"format": "pt"})
        path.unlink()
    base = open_base(model_config(own_folder))
    unet = base.load_denoiser(dtype=torch.float32, device=CPU).module
    reference = load_file(folder / "unet/diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert torch.equal(unet.conv_in.weight, reference.half().float())
    states = base.caption_encoder(dtype=torch.float32, device=CPU).encode([""])["encoder_hidden_states"]
    assert states.dtype == torch.float32


@pytest.mark.slow
def test_weights_in_shards_load(own_folder: Path, folder: Path, inputs: Callable) -> None:
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    (own_folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(own_folder / "unet", max_shard_size="500KB")
    assert len(list((own_folder / "unet").glob("*-of-*.safetensors"))) > 1
    sharded = open_base(model_config(own_folder)).load_denoiser(dtype=torch.float64, device=CPU)
    whole = open_base(model_config(folder)).load_denoiser(dtype=torch.float64, device=CPU)
    with torch.no_grad():
        assert torch.equal(sharded.denoise(*inputs()), whole.denoise(*inputs()))


class _Moved:
    """A module that says where it is."""

    def __init__(self, places: list[str]) -> None:
        self._places = places

    def to(self, place: object) -> _Moved:
        self._places.append(str(place))
        return self


def test_a_module_that_leaves_its_device_waits_on_the_host_and_comes_back_unread() -> None:
    read: list[torch.dtype] = []
    places: list[str] = []

    def load(dtype: torch.dtype) -> _Moved:
        read.append(dtype)
        return _Moved(places)

    lazy = LazyModule(load, dtype=torch.float32, device=torch.device("cuda", 0))
    lazy.leave()  # before it was ever there
    assert not read
    lazy.module()
    lazy.module()
    lazy.leave()
    lazy.module()
    assert places == ["cuda:0", "cpu", "cuda:0"]
    assert read == [torch.float32]
    lazy.close()
    lazy.module()
    assert len(read) == 2


def test_weights_are_read_at_the_first_use_and_again_after_close(own_folder: Path) -> None:
    base = open_base(model_config(own_folder))
    captions = base.caption_encoder(dtype=torch.float32, device=CPU)
    images = base.image_encoder(dtype=torch.float32, device=CPU)
    decoder = base.load_decoder(dtype=torch.float32, device=CPU)
    weights = [own_folder / "vae/diffusion_pytorch_model.safetensors", own_folder / "text_encoder/model.safetensors"]
    kept = [path.read_bytes() for path in weights]
    for path in weights:
        path.unlink()
    for use in (
        lambda: captions.encode(["red heart"]),
        lambda: images.encode(pixels()),
        lambda: decoder.decode(torch.zeros(1, 4, 8, 8)),
    ):
        with pytest.raises(OSError, match="safetensors"):  # nothing had been read before
            use()
    for path, content in zip(weights, kept, strict=True):
        path.write_bytes(content)
    before = captions.encode(["red heart"])["encoder_hidden_states"]
    captions.close()
    images.encode(pixels())
    images.close()
    decoder.close()
    assert torch.equal(captions.encode(["red heart"])["encoder_hidden_states"], before)
