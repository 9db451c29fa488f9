"""What each key of an adapter file stands for, in every spelling of image LoRA that is about. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora_foundry.lora.formats.adapter import COMPONENTS, AdapterFileError, canonical_text_name, listing
from lora_foundry.lora.formats.kinds import PLAIN, other_kinds
from lora_foundry.lora.formats.names import by_flat_name, component_of, dotted, is_sgm

KOHYA = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
DIFFUSERS = {f"{component}.": component for component in COMPONENTS}
_PEFT = "base_model.model."
_EMBEDDINGS = ("bundle_emb.",)
_ADAPTER = r"(?:\.[\w-]+)?"  # PEFT may put the adapter's name here
_PARTS = (
    (re.compile(r"\.lora_down\.weight$"), "down"),
    (re.compile(r"\.lora_up\.weight$"), "up"),
    (re.compile(rf"\.lora_A{_ADAPTER}\.weight$"), "down"),
    (re.compile(rf"\.lora_B{_ADAPTER}\.weight$"), "up"),
    (re.compile(r"\.lora(?:_linear_layer)?\.down\.weight$"), "down"),
    (re.compile(r"\.lora(?:_linear_layer)?\.up\.weight$"), "up"),
    (re.compile(r"\.alpha$"), "alpha"),
    (re.compile(r"\.dora_scale$"), "dora_scale"),
    (re.compile(r"\.lora_magnitude_vector(?:\.[\w-]+){0,2}$"), "dora_scale"),
)
# Diffusers before 0.17 kept LoRA in attention processors, and text encoders' beside their attention.
_PROCESSOR = re.compile(r"\.(?:processor\.)?to_(q|k|v|out)_lora\.(down|up)\.weight$")
_TO_TEXT = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
_SGM_MESSAGE = (
    "{path}: names the original (SGM) UNet's blocks ({key}), allowed are diffusers-style blocks (down_blocks, "
    "mid_block, up_blocks); load it into its own pipeline with diffusers and save it again with save_lora_weights"
)


@dataclass(frozen=True, slots=True)
class Place:
    """What a key stands for: ``part`` is ``down``, ``up``, ``alpha`` or ``dora_scale``."""

    component: str
    module: str
    part: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sorted:
    """The keys of a file.

    Attributes:
        places: What each stands for.
        embeddings: Keys of embeddings that lie in the file as well; they are no part of the adapter.
        is_kohya: Whether the rest has kohya's names.
        problems: A line for each key, or kind of keys, that cannot be used.
    """

    places: Mapping[str, Place] = field(default_factory=dict)
    embeddings: tuple[str, ...] = ()
    is_kohya: bool = False
    problems: tuple[str, ...] = ()


def sort_keys(path: Path, keys: Collection[str], module_names: Collection[str] | None) -> Sorted:
    """Say what each of ``keys`` stands for.

    Args:
        path: Named in errors.
        keys: The file's tensors.
        module_names: The live UNet's modules, to resolve kohya's underscores and to refuse modules it does not
            have; None takes the grammar of diffusers' names alone.

    Raises:
        AdapterFileError: When nothing in it belongs to an image adapter, or it follows the original UNet's names.
    """
    embeddings = tuple(sorted(key for key in keys if key.startswith(_EMBEDDINGS)))
    rest = [key for key in keys if key not in set(embeddings)]
    others = other_kinds(rest)
    problems = [
        f"{len(strange)} of {len(rest)} keys are of another kind, {kind} (such as {min(strange)}); {PLAIN}"
        for kind, strange in others.items()
    ]
    strange_keys = {key for strange in others.values() for key in strange}
    grammar = _Grammar(path, module_names)
    places: dict[str, Place] = {}
    seen: set[Place] = set()
    for key in rest:
        if key in strange_keys:
            continue
        place = grammar.place(key)
        if isinstance(place, str):
            problems.append(f"{key}: {place}")
        elif place in seen:
            problems.append(f"{key}: given twice, under two spellings")
        else:
            seen.add(place)
            places[key] = place
    if not others and not any(grammar.known(key) for key in rest):
        raise AdapterFileError(_no_image_adapter(path, rest))
    return Sorted(
        places=places,
        embeddings=embeddings,
        is_kohya=all(key.startswith(tuple(KOHYA)) for key in rest),
        problems=tuple(problems),
    )


class _Grammar:
    def __init__(self, path: Path, module_names: Collection[str] | None) -> None:
        self._path = path
        self._names = None if module_names is None else set(module_names)
        self._flat = None if module_names is None else by_flat_name(module_names)

    def known(self, key: str) -> bool:
        """Whether ``key`` could be of an image adapter, for whatever base."""
        place = self.place(key)
        return not isinstance(place, str) or key.startswith((*KOHYA, *DIFFUSERS))

    def place(self, key: str) -> Place | str:
        """What ``key`` stands for, or what is wrong with it."""
        cut = _cut(key)
        if cut is None:
            return "not a key of a LoRA file"
        module, part = cut
        prefix = next((p for p in KOHYA if key.startswith(p)), None)
        if prefix is not None:
            return self._kohya(key, prefix, module, part)
        module = module.removeprefix(_PEFT)
        start = next((p for p in DIFFUSERS if module.startswith(p)), None)
        name = module if start is None else module.removeprefix(start)
        component = self._bare(name) if start is None else DIFFUSERS[start]
        if component is None or (component == "unet" and self._names is not None and name not in self._names):
            return "the base has no such module"
        return Place(component, name if component == "unet" else canonical_text_name(name), part)

    def _kohya(self, key: str, prefix: str, module: str, part: str) -> Place | str:
        flat, component = module.removeprefix(prefix), KOHYA[prefix]
        if component == "unet" and is_sgm(flat):
            raise AdapterFileError(_SGM_MESSAGE.format(path=self._path, key=key))
        known = component == "unet" and self._flat is not None
        name = (self._flat or {}).get(flat) if known else dotted(component, flat)
        return "the base has no such module" if name is None else Place(component, name, part)

    def _bare(self, name: str) -> str | None:
        """The component of a name that says none."""
        if self._names is not None and name in self._names:
            return "unet"
        return component_of(canonical_text_name(name))


def _cut(key: str) -> tuple[str, str] | None:
    """``(module, part)`` of a key, however it is spelt."""
    found = _PROCESSOR.search(key)
    if found is not None:
        which, part = found.groups()
        if ".self_attn." in key:
            return f"{key[: found.start()]}.{_TO_TEXT[which]}", part
        return f"{key[: found.start()]}.to_{'out.0' if which == 'out' else which}", part
    for pattern, part in _PARTS:
        match = pattern.search(key)
        if match is not None:
            return key[: match.start()], part
    return None


def _no_image_adapter(path: Path, keys: Iterable[str]) -> str:
    known = f"kohya's names ({' '.join(KOHYA)}), diffusers' ({' '.join(DIFFUSERS)}) or the UNet's own"
    return listing(f"{path}: no image adapter; allowed are {known}; got", sorted(keys) or ["no keys"])
