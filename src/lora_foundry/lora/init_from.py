"""Whether a job can go on from an adapter's file, told from the file's header alone. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora_foundry.lora.formats.adapter import AdapterFileError
from lora_foundry.lora.formats.contents import Contents, read_contents

_TRAINED = "unet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a job wants of the adapter that it goes on from.

    Attributes:
        rank: ``lora.rank``.
        rank_is_given: Whether somebody said it, so that an adapter of another rank is brought to it.
        layers: Shapes of the weights of the base's layers, by dotted name; None where they are not known yet.
        targets: Names of the layers that the job trains; None where they are not known yet.
        presets: What each preset of ``lora.target_modules`` stands for on this base, for advice.
    """

    rank: int
    rank_is_given: bool
    layers: Mapping[str, tuple[int, ...]] | None = None
    targets: Collection[str] | None = None
    presets: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """What was found.

    Attributes:
        contents: What is in the file; None where it cannot be used at all.
        problems: Why the job cannot go on from it; a line each.
        warnings: What of it will not be used; a line each.
    """

    contents: Contents | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def look_at(path: Path, wanted: Wanted) -> Outlook:
    """Read the header of the file at ``path``, or in that folder, and hold it against what the job wants.

    Values are not read: whether they are finite, and alpha not 0, is told by
    :func:`lora_foundry.lora.formats.values.value_problems`.
    """
    try:
        contents = read_contents(path, None if wanted.layers is None else list(wanted.layers))
    except (AdapterFileError, OSError) as error:
        return Outlook(contents=None, problems=(f"lora.init_from: {error}",))
    problems = [*_other_parts(contents), *_other_shapes(contents, wanted), *_other_layers(contents, wanted)]
    if contents.ranks() != [wanted.rank] and not wanted.rank_is_given:
        problems.append(_other_rank(contents, wanted.rank))
    warnings = []
    if contents.embeddings:
        names = ", ".join(contents.embeddings[:3])
        warnings.append(f"lora.init_from={path}: its embedding ({names}) is not used; this trains the UNet alone")
    return Outlook(
        contents=contents,
        problems=tuple(f"lora.init_from={path}: {problem}" for problem in problems),
        warnings=tuple(warnings),
    )


def _other_parts(contents: Contents) -> list[str]:
    problems = []
    text = [name for component, name in contents.modules if component != _TRAINED]
    if text:
        problems.append(
            f"it adapts a text encoder as well ({len(text)} layers, such as {text[0]}); allowed is an adapter of the "
            "UNet alone, since nothing else is trained here: save it without the text encoder's keys"
        )
    dora = [name for (_, name), parts in contents.modules.items() if "dora_scale" in parts]
    if dora:
        problems.append(
            f"it is DoRA ({len(dora)} magnitudes, such as that of {dora[0]}); allowed is plain LoRA, since an update "
            "with magnitudes is none of low rank"
        )
    return problems


def _other_shapes(contents: Contents, wanted: Wanted) -> list[str]:
    if wanted.layers is None:
        return []
    return [
        f"{name}: the base's weight is {wanted.layers[name]}, the file's update {contents.update_shape((c, name))}"
        for c, name in contents.modules
        if c == _TRAINED and name in wanted.layers and not _fits(contents.update_shape((c, name)), wanted.layers[name])
    ]


def _fits(update: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether shapes are the same, a 1x1 convolution's being a linear layer's."""
    return update[:2] == weight[:2] and math.prod(update) == math.prod(weight)


def _other_layers(contents: Contents, wanted: Wanted) -> list[str]:
    named = {name for component, name in contents.modules if component == _TRAINED}
    if wanted.targets is None or named == set(wanted.targets):
        return []
    alike = next((preset for preset, names in wanted.presets.items() if named == set(names)), None)
    odd = sorted(named ^ set(wanted.targets))[0]
    advice = f"give lora.target_modules={alike}" if alike else "name the file's own layers in lora.target_modules"
    return [
        f"it adapts {len(named)} layers, lora.target_modules names {len(wanted.targets)} "
        f"(first that differs: {odd}); {advice}"
    ]


def _other_rank(contents: Contents, rank: int) -> str:
    ranks = contents.ranks()
    shown = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    return (
        f"it has {shown}, lora.rank={rank} is only the default; give lora.rank={ranks[-1]} to go on with all of it, or "
        f"lora.rank={rank} to have it brought to that rank"
    )
