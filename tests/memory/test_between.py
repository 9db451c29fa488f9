"""What is predicted of scoring, drawing and encoding is the bytes that they then take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from lora_foundry.config import JobConfig
from lora_foundry.config.compose import compose_job
from lora_foundry.lora.inject import inject
from lora_foundry.lora.rows import RowPlan
from lora_foundry.memory.between import Pictures, are_known, peaks_of, pictures_of
from lora_foundry.memory.libraries import Beside
from lora_foundry.memory.predict import Curve, Needs, curve_of, together
from lora_foundry.memory.scratch import Alive
from lora_foundry.memory.tally import Tally
from lora_foundry.memory.trace import GRAIN, placeholder, run_once, zeros
from lora_foundry.models.families.sd.encoders import LazyModule, SdDecoder, SdImageEncoder
from lora_foundry.models.opening import open_base, open_sizes
from lora_foundry.models.protocol import BaseError
from lora_foundry.models.sampling import decoded, draw
from lora_foundry.tasks.denoising import Denoising
from lora_foundry.tasks.denoising.task import blank_inputs
from lora_foundry.training.pack import Pack, adapter_spec
from lora_foundry.training.precision import DTYPES
from tests.launch.jobs import job
from tests.root import PROJECT_ROOT

CPU = torch.device("cpu")


def _tensors(needs: Needs, inside: Alive) -> int:
    """Without what a convolution has for itself, which no tensor shows."""
    return needs.tensors - (needs.activations == inside.inside) * (inside.inside - inside.tensors)


def _pack(config: JobConfig, members: int) -> tuple[Pack, Tally]:
    """A pack that has made a step, whose tensors are counted."""
    sizes = open_sizes(config.model)
    denoiser = sizes.build(DTYPES[config.trainer.precision].base)
    trained = [placeholder(config, number) for number in range(members)]
    for member in trained:
        inject(denoiser.module, member.name, adapter_spec(member, denoiser))
    pack = Pack(Denoising(denoiser), trained, injected=True)
    tally, module = Tally(grain=GRAIN), denoiser.module
    base = [t for name, t in (*module.named_parameters(), *module.named_buffers()) if ".lora_" not in name]
    tally.add([*base, pack.bank.weights, pack.bank.gradients])
    with tally:
        run_once(pack, zeros(pack, sizes, [1] * members))
    tally.mark()
    return pack, tally


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_predicted_bytes_are_those_of_a_member_that_is_scored_and_draws(
    precision: str, members: int, traces: Path
) -> None:
    config = compose_job(f"data.cache_dir={traces}", "lora.rank=8", f"trainer.precision={precision}")
    curve, sizes = curve_of(config), open_sizes(config.model)
    peaks = peaks_of([curve] * members, pictures_of(config), [config] * members)
    _, _, validation, drawing, _ = peaks
    pack, tally = _pack(config, members)
    moments = 2 * pack.bank.weights.nbytes
    with tally, torch.no_grad(), pack.bank.rows(RowPlan(places=(0,), counts=(1,))):
        pack.task.judged(
            blank_inputs(pack.task.denoiser, sizes, 1, resolution=config.data.resolution, dtype=pack.dtypes.adapter)
        )
    assert _tensors(validation, curve.forward) == pytest.approx(tally.peak + moments, rel=0.02)
    with tally, pack.bank.rows(RowPlan(places=tuple(range(members)), counts=(1,) * members)):
        tally.mark()  # as a step left it
    told = sizes.conditioning(1, torch.float32)
    with tally:
        draw(
            pack.task.denoiser,
            conditioning=told,
            empty_conditioning=told,
            seeds=[0],
            steps=2,
            guidance=3.0,
            side=config.data.resolution // sizes.pixels_per_cell,
            around=lambda rows: pack.bank.rows(RowPlan(places=(0,), counts=(len(rows),))),
            max_rows=1,
        )
    assert _tensors(drawing, curve.guided) == pytest.approx(tally.peak + moments, rel=0.02)


def _taken(networks: Iterable[torch.nn.Module], *calls: Callable[[], object]) -> int:
    """Bytes of weights and of all that is alive at the height of ``calls``, one after another."""
    tally = Tally(grain=GRAIN)
    tally.add(tensor for network in networks for tensor in (*network.parameters(), *network.buffers()))
    with tally:
        for call in calls:
            call()
    return tally.peak


def test_predicted_bytes_are_those_of_a_picture_that_is_encoded_and_decoded(tmp_path: Path) -> None:
    config = compose_job(f"data.cache_dir={tmp_path}")
    files, pictures = open_base(config.model), pictures_of(config)
    images, captions = (
        encoder(dtype=torch.float32, device=CPU) for encoder in (files.image_encoder, files.caption_encoder)
    )
    side = config.data.resolution
    networks = [images._vae.module(), captions._text_encoder.module()]
    pixels = torch.zeros(1, 3, side, side)
    taken = _taken(networks, lambda: images.encode(pixels), lambda: captions.encode(["a caption"]))
    assert pictures.encoders + pictures.encoding.tensors == pytest.approx(taken, rel=0.02)
    latents, decoder = images.encode(pixels), files.load_decoder(dtype=torch.float32, device=CPU)
    taken = _taken([decoder._vae.module()], lambda: decoded(decoder, latents, 1))
    assert pictures.decoder + pictures.decoding.tensors == pytest.approx(taken, rel=0.02)


@pytest.mark.slow
def test_those_of_stable_diffusions_vae_too(tmp_path: Path) -> None:
    """At 128 pixels, which a processor decodes in two seconds; 83,653,863 is the published size of the VAE."""
    config = compose_job("model=sd15", "data.resolution=128", f"data.cache_dir={tmp_path}")
    pictures = pictures_of(config)
    vae = AutoencoderKL.from_config(json.loads((PROJECT_ROOT / "assets/sd15-config/vae/config.json").read_text()))
    vae.requires_grad_(requires_grad=False).eval()
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    lazy = LazyModule(lambda _: vae, dtype=torch.float32, device=CPU)
    images, decoder = SdImageEncoder(lazy, ""), SdDecoder(lazy, 8)
    pixels = torch.zeros(1, 3, 128, 128)
    taken = _taken([vae], lambda: images.encode(pixels))
    texts = pictures.encoders - pictures.decoder
    assert pictures.encoders + pictures.encoding.tensors - texts == pytest.approx(taken, rel=0.02)
    assert texts == pytest.approx(4 * 123_060_480, rel=0.001), "the published size of CLIP ViT-L/14's text encoder"
    taken = _taken([vae], lambda: decoder.decode(torch.zeros(1, 4, 16, 16)))
    assert pictures.decoder + pictures.decoding.tensors == pytest.approx(taken, rel=0.02)


def _alive(tensors: int, more: int = 0) -> Alive:
    return Alive(tensors=tensors, inside=tensors + more)


_CURVE = Curve(
    weights=1000,
    floats=10,
    adapter_bytes=4,
    copy=20,
    fixed=100,
    row=50,
    ops=0,
    flops_fixed=0,
    flops_row=0,
    forward=_alive(30, 1),
    guided=_alive(60, 2),
)
_PICTURES = Pictures(encoders=300, encoding=_alive(70, 5), decoder=200, decoding=_alive(900, 40))


def _by_doing(config: JobConfig, members: int = 1, cpu_threads: int | None = None) -> dict[str, list[Needs]]:
    found: dict[str, list[Needs]] = {}
    for needs in peaks_of([_CURVE] * members, _PICTURES, [config] * members, Beside(kept_share=0.5), cpu_threads):
        found.setdefault(needs.doing, []).append(needs)
    return found


def test_a_card_has_networks_only_while_they_are_used() -> None:
    config = job(data__batch_size=2, trainer__precision="bf16-mixed")
    stays = 1000 + 4 * 40  # weights, gradients, two moments
    found = _by_doing(config)
    assert found["step"] == [together([_CURVE], [config], Beside(kept_share=0.5))]
    assert [needs.tensors for needs in found["encoding"]] == [300 + 75], "no base is there yet"
    assert [needs.tensors for needs in found["validation"]] == [stays + 31]
    decoding = stays + 20 + 200 + 940  # 20: the bank in 16 bits
    assert [needs.tensors for needs in found["drawing"]] == [stays + 62, decoding]
    assert found["drawing"][1].total == decoding + 470, "and what the allocator keeps"


def test_on_a_cpu_what_decodes_waits_in_the_same_memory() -> None:
    card, cpu = _by_doing(job()), _by_doing(job(), cpu_threads=2)
    for doing, more in (("encoding", [0]), ("step", [200]), ("validation", [200]), ("drawing", [200, 0])):
        pairs = zip(cpu[doing], card[doing], strict=True)
        assert [there.tensors - here.tensors for there, here in pairs] == more


def test_who_draws_nothing_takes_nothing_for_it() -> None:
    config = job(sample__enabled=False)
    assert set(_by_doing(config)) == {"encoding", "step", "validation"}
    assert _by_doing(config, cpu_threads=2)["step"] == _by_doing(config)["step"]


def test_a_picture_without_guidance_has_one_row() -> None:
    one, two = (_by_doing(job(sample__guidance=guidance))["drawing"][0].activations for guidance in (1.0, 3.0))
    assert (one, two) == (31, 62)


@pytest.mark.parametrize(("precision", "scored"), [("32-true", 0), ("bf16-mixed", 3 * 20 - 31)])
def test_the_members_of_a_pack_stay_while_one_draws(precision: str, scored: int) -> None:
    """In 16 bits a step's copies of all three are there first, 60 bytes, where 31 were alive in a forward of one."""
    config = job(trainer__precision=precision)
    alone, pack = _by_doing(config), _by_doing(config, members=3)
    others = 2 * 4 * 40
    assert pack["validation"][0].tensors - alone["validation"][0].tensors == others + scored
    assert pack["drawing"][1].tensors - alone["drawing"][1].tensors == others


def test_pictures_are_traced_once_for_a_base_and_a_size(tmp_path: Path) -> None:
    config = compose_job(f"data.cache_dir={tmp_path}")
    assert not are_known(config)
    first = pictures_of(config)
    assert are_known(replace(config, lora=replace(config.lora, rank=3)))
    assert not are_known(replace(config, data=replace(config.data, resolution=128)))
    (kept,) = (tmp_path / "memory").iterdir()
    kept.write_text(kept.read_text().replace(str(first.decoder), str(first.decoder + 1)))
    assert pictures_of(config).decoder == first.decoder + 1, "read, not traced"
    kept.write_text("{ torn")
    assert pictures_of(config) == first


def test_a_base_without_a_vaes_config_is_an_error(tmp_path: Path) -> None:
    for part in ("unet", "scheduler"):
        shutil.copytree(PROJECT_ROOT / "assets/tiny-sd" / part, tmp_path / part)
    with pytest.raises(BaseError, match=r"vae/config.json: missing"):
        pictures_of(compose_job(f"data.cache_dir={tmp_path}", f"model.config={tmp_path}"))


@pytest.mark.slow
def test_a_base_without_texts_is_encoded_without_them(tmp_path: Path) -> None:
    """SDXL, which is predicted and not trained, has two text encoders whose configs are not here."""
    whole = pictures_of(compose_job(f"data.cache_dir={tmp_path}"))
    for part in ("unet", "scheduler", "vae"):
        shutil.copytree(PROJECT_ROOT / "assets/tiny-sd" / part, tmp_path / part)
    pictures = pictures_of(compose_job(f"data.cache_dir={tmp_path}", f"model.config={tmp_path}"))
    assert pictures.encoders == pictures.decoder < whole.encoders
    assert pictures.decoding == whole.decoding
