"""Where a Stable Diffusion's parts lie: a folder in diffusers' format, or one file with a folder of configs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_foundry.config.tensorfile import TensorHeader
from lora_foundry.models.families.sd.pickled import read_pickled
from lora_foundry.models.hashing import content_hash
from lora_foundry.models.header import read_header
from lora_foundry.models.protocol import BaseError
from lora_foundry.models.tokens import tokenizer_files

CONFIGS = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text_encoder": "text_encoder/config.json",
    "scheduler": "scheduler/scheduler_config.json",
}
PREFIXES = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.transformer.",),
}
"""How the names of each part's tensors begin in a single file."""
MARKERS = ("v_pred", "ztsnr")
"""Names of empty tensors by which single files say what kind of noise they were trained with."""
VARIANTS = (None, "fp16", "bf16", "non_ema", "fp8")
"""Variants of a folder's files that are opened, the best first."""
STEMS: dict[str, str] = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SdLayout:
    """The files of one base.

    Attributes:
        root: Folder with the parts' configs and the tokenizer.
        single: One file with all weights; None when they lie beside the configs.
        variants: For each part of a folder, the variant in its file's name (``fp16``), or None.
        shapes: Shapes of a single file's weights by name; empty for a folder.
        markers: What a single file says of its noise: ``v_pred`` (it predicts v), ``ztsnr`` (it ends in pure noise).
        remarks: What a person should know of the files that were found; a line each.
    """

    root: Path
    single: Path | None
    variants: dict[str, str | None]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    markers: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()

    def config(self, part: str) -> dict[str, Any]:
        """A part's configuration (``unet``, ``vae``, ``text_encoder`` or ``scheduler``); a single file has a say."""
        marked: dict[str, Any] = {}
        if part == "scheduler" and "v_pred" in self.markers:
            marked["prediction_type"] = "v_prediction"
        if part == "scheduler" and "ztsnr" in self.markers:
            marked["rescale_betas_zero_snr"] = True
        return read_config(self.root / CONFIGS[part]) | marked

    def hash_of(self, *parts: str) -> str:
        """Content hash of the weights and configs of ``parts`` (``tokenizer`` is one too)."""
        return content_hash({name: path for part in parts for name, path in self._files(part).items()})

    def numbers_of(self, part: str) -> int:
        """How many numbers a part's weights are, from the files' headers."""
        return sum(math.prod(shape) for shape in self.shapes_of(part).values())

    def shapes_of(self, part: str) -> dict[str, tuple[int, ...]]:
        """Shapes of a part's weights by their names in the files, from the files' headers."""
        if self.single:
            return {name: shape for name, shape in self.shapes.items() if name.startswith(PREFIXES[part])}
        files = _weights(self.root, part, self.variants[part])
        return {name: shape for file in files if file.suffix != ".json" for name, shape in _shapes(file).items()}

    def _files(self, part: str) -> dict[str, Path]:
        if part == "tokenizer":
            return {f"tokenizer/{path.name}": path for path in tokenizer_files(self.root / part)}
        files = {CONFIGS[part]: self.root / CONFIGS[part]}
        if part in STEMS and self.single:
            files["weights"] = self.single
        elif part in STEMS:
            files |= {f"{part}/{path.name}": path for path in _weights(self.root, part, self.variants[part])}
        return files


def folder_layout(root: Path) -> SdLayout:
    """A folder in diffusers' format, checked for completeness.

    Raises:
        BaseError: With every missing or unreadable file.
    """
    problems = _config_problems(root)
    variants: dict[str, str | None] = {}
    for part in STEMS:
        variant = next((v for v in VARIANTS if _weights(root, part, v)), "")
        if variant == "":
            problems.append(_no_weights(root, part))
        else:
            variants[part] = variant
            problems.extend(_weight_problems(root, part, variant))
    if problems:
        raise BaseError(_incomplete(root, "a Stable Diffusion in diffusers' folder format", problems))
    remarks = [line for part, variant in variants.items() for line in _remarks(root, part, variant)]
    return SdLayout(root=root, single=None, variants=variants, remarks=tuple(remarks))


def single_layout(file: Path, configs: Path) -> SdLayout:
    """One file with all weights, and the folder with its configs and tokenizer, checked for completeness.

    Raises:
        BaseError: With every missing or unreadable file.
    """
    problems = _config_problems(configs)
    if problems:
        raise BaseError(_incomplete(configs, f"a folder of configs (model.config) for {file}", problems))
    header = read_header(file) if file.suffix == ".safetensors" else None
    names = _shapes(file) if header is None else header.shapes()
    missing = [part for part, starts in PREFIXES.items() if not any(name.startswith(starts) for name in names)]
    if missing:
        wanted = ", ".join(f"{PREFIXES[part][0]}* ({part})" for part in missing)
        msg = (
            f"model.path: got {file}, which has no tensors named {wanted}; allowed is a full checkpoint of "
            "Stable Diffusion 1.x (an adapter, a UNet alone, or another family such as SDXL is none)"
        )
        raise BaseError(msg)
    markers = {name for name in MARKERS if name in names}
    if header is not None and header.metadata.get("modelspec.prediction_type") == "v":
        markers.add("v_pred")
    remarks = () if header is None else tuple(_rounded(file, header))
    return SdLayout(root=configs, single=file, variants={}, shapes=names, markers=frozenset(markers), remarks=remarks)


def _remarks(root: Path, part: str, variant: str | None) -> list[str]:
    files = [path for path in _weights(root, part, variant) if path.suffix == ".safetensors"]
    lines = [line for file in files for line in _rounded(file, read_header(file))]
    if variant == "non_ema":
        lines.append(f"{files[0]}: only the weights without averaging (non_ema) are there, so they are used")
    return lines


def _rounded(file: Path, header: TensorHeader) -> list[str]:
    kept = {str(entry["dtype"]) for entry in header.tensors.values()}
    if not any(dtype.startswith("F8") for dtype in kept):
        return []
    return [
        f"{file}: it is kept in fp8, which moves the outputs by about a tenth; train on the fp16 file if there is one"
    ]


def _config_problems(root: Path) -> list[str]:
    problems = []
    for name in CONFIGS.values():
        problems.extend(_said(read_config, root / name))
    return problems + _said(tokenizer_files, root / "tokenizer")


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BaseError: When it is missing or none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path}: missing"
        raise BaseError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as JSON ({error})"
        raise BaseError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path}: got a JSON {type(value).__name__}, allowed is an object"
        raise BaseError(msg)
    return value


def _weights(root: Path, part: str, variant: str | None) -> list[Path]:
    stem = STEMS[part] + (f".{variant}" if variant else "")
    whole = root / part / f"{stem}.safetensors"
    if whole.is_file():
        return [whole]
    index = _index(root, part, variant)
    return [index, *(root / part / name for name in _shards(index))] if index.is_file() else []


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    if file.suffix == ".safetensors":
        return read_header(file).shapes()
    return {name: tuple(tensor.shape) for name, tensor in read_pickled(file).items()}


def _index(root: Path, part: str, variant: str | None) -> Path:
    middle = f".{variant}" if variant else ""
    return root / part / f"{STEMS[part]}.safetensors.index{middle}.json"


def _shards(index: Path) -> list[str]:
    return sorted(set(read_config(index).get("weight_map", {}).values()))


def _weight_problems(root: Path, part: str, variant: str | None) -> list[str]:
    problems = []
    for path in _weights(root, part, variant):
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif path.suffix == ".safetensors":
            problems.extend(_said(read_header, path))
    return problems


def _said(check: Callable[[Path], object], path: Path) -> list[str]:
    try:
        check(path)
    except BaseError as error:
        return [str(error)]
    return []


def _no_weights(root: Path, part: str) -> str:
    wanted = root / part / f"{STEMS[part]}.safetensors"
    pickled = sorted(path.name for suffix in ("*.bin", "*.ckpt", "*.pt") for path in (root / part).glob(suffix))
    others = sorted(path.name for path in (root / part).glob(f"{STEMS[part]}.*.safetensors"))
    if others:
        allowed = ", ".join(variant for variant in VARIANTS if variant)
        return f"{wanted}: missing; there is {', '.join(others[:3])}, allowed is that name, or a variant of {allowed}"
    if pickled:
        return f"{wanted}: missing; {', '.join(pickled)} beside it is pickled code, allowed is safetensors: convert it"
    return f"{wanted}: missing"


def _incomplete(root: Path, what: str, problems: list[str]) -> str:
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return f"{root} is not {what}:\n{lines}\nCopy or download the missing files."
