"""What a step costs in the classes of other trainers, stepped as their own loops step them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench import PROJECT_ROOT
from bench.device.building import words
from bench.device.packs import together
from bench.device.stage import GIB, Stage
from bench.device.timing import Measured, is_full, median, timed
from bench.kohya import TARGETS

_BATCHES = (1, 4)
_PACK = 4
_RANK, _RATE, _SPREAD, _CLIP = 8, 1e-4, 0.02, 1.0
_TOKENS = 77
_SECONDS = 2.0
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_COLUMNS = ("targets", "batch", "who", "images/s", "ms a step", "GiB of tensors", "ours over theirs")

Step = Callable[[], None]


def peers(stage: Stage) -> None:
    """One job of ours, and a pack, beside diffusers with PEFT, and beside kohya's UNet and network where it is given.

    Neither side loads images or logs; the peers' noise is drawn on the card, as their loops do.
    """
    table = stage.table(f"Beside other trainers' classes, rank {_RANK}, bf16", *_COLUMNS)
    sides: list[tuple[str, str, str, Callable[[Stage, int], Step]]] = []
    if find_spec("peft") is None:
        stage.note("peers", "diffusers with PEFT: peft is not installed")
    else:
        sides.append(("attention", "attention", "diffusers and PEFT", _diffusers))
    if stage.kohya is None or stage.small:
        stage.note("peers", "kohya: its UNet has one size" if stage.small else "kohya: no copy was given")
    else:
        sides.append(("kohya's 192", f"[{','.join(TARGETS)}]", "kohya", _kohya))
    for named, targets, who, build in sides:
        for batch in _BATCHES[:1] if stage.small else _BATCHES:
            theirs = _measured(stage, build, batch)
            asked = words(stage.folder, f"data.batch_size={batch}", f"lora.target_modules={targets}", small=stage.small)
            ours = {count: together(stage, asked, count, _seconds(stage))[1] for count in (1, _PACK)}
            rows = {who: theirs, "ours, alone": ours[1], f"ours, {_PACK} in a pack": ours[_PACK]}
            for name, one in rows.items():
                figures = ("out of memory", "", "") if one is None else _figures(one)
                over = f"{one.images_per_s / theirs.images_per_s:.2f}x" if one and theirs else ""
                stage.row(table, named, str(batch), name, *figures, over)


def _figures(one: Measured) -> tuple[str, str, str]:
    gib = "" if one.tensors is None else f"{one.tensors / GIB:.2f}"
    return f"{one.images_per_s:.2f}", f"{one.step_s * 1e3:.1f}", gib


def _seconds(stage: Stage) -> float:
    return 0.0 if stage.small else _SECONDS


def _measured(stage: Stage, build: Callable[[Stage, int], Step], batch: int) -> Measured | None:
    stage.free()
    if not stage.small:
        torch.cuda.reset_peak_memory_stats(stage.device)
    try:
        step_s = median(timed(build(stage, batch), stage.sync, _seconds(stage)))
    except Exception as error:
        if not is_full(error):
            raise
        return None
    return Measured(
        step_s=step_s,
        images_per_s=batch / step_s,
        tensors=None if stage.small else torch.cuda.max_memory_allocated(stage.device),
        held=None,
    )


def _diffusers(stage: Stage, batch: int) -> Step:
    """Of ``train_text_to_image_lora.py``: the base in bf16, the adapter in fp32, autocast between."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    root = PROJECT_ROOT / "assets" / ("tiny-sd" if stage.small else "sd15-config")
    config: dict[str, Any] = json.loads((root / "unet" / "config.json").read_text())
    unet: Any = UNet2DConditionModel.from_config(config)  # type: ignore[no-untyped-call]
    _draw(unet.requires_grad_(requires_grad=False).to(stage.device, torch.bfloat16))
    unet.add_adapter(LoraConfig(r=_RANK, lora_alpha=_RANK, init_lora_weights="gaussian", target_modules=_ATTENTION))
    cast_training_params(unet, dtype=torch.float32)
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    return _loop(stage, batch, unet, trained, config["cross_attention_dim"])


def _kohya(stage: Stage, batch: int) -> Step:
    """Of ``train_network.py --network_train_unet_only --sdpa --mixed_precision bf16``."""
    sys.path.insert(0, str(stage.kohya))
    from library.original_unet import UNet2DConditionModel  # type: ignore[import-not-found]
    from networks.lora import create_network  # type: ignore[import-not-found]

    unet = UNet2DConditionModel(sample_size=64, attention_head_dim=8, cross_attention_dim=768)
    _draw(unet.requires_grad_(requires_grad=False).to(stage.device, torch.bfloat16))
    unet.set_use_sdpa(True)
    network = create_network(1.0, _RANK, _RANK, None, [], unet)
    network.apply_to([], unet, apply_text_encoder=False, apply_unet=True)
    network.to(stage.device)
    network.requires_grad_(requires_grad=True)
    unet.train()
    network.train()
    return _loop(stage, batch, unet, list(network.parameters()), 768)


def _draw(module: torch.nn.Module) -> None:
    for tensor in module.parameters():
        tensor.data.normal_(std=_SPREAD)


def _loop(stage: Stage, batch: int, unet: Any, trained: list[torch.nn.Parameter], width: int) -> Step:  # noqa: ANN401  # a peer's module
    side, device = 8 if stage.small else 64, stage.device
    cached = torch.randn(batch, 4, side, side)
    states = torch.randn(batch, _TOKENS, width, device=device, dtype=torch.bfloat16)
    alphas = torch.linspace(0.99, 0.01, 1000, device=device)
    optimizer = torch.optim.AdamW(trained, lr=_RATE)

    def step() -> None:
        latents = cached.to(device)
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (batch,), device=device)
        kept = alphas[timesteps].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
        with torch.autocast(device.type, torch.bfloat16):
            predicted: Tensor = unet(noisy.to(torch.bfloat16), timesteps, states).sample
        loss = functional.mse_loss(predicted.float(), noise)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, _CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # their progress bars show it

    return step
