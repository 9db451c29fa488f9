"""Cross-validation: a point with ``data.folds`` stands for a job a fold, and for one more on every image at the end."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from lora_foundry.wire.outcomes import EVERY, FOLD

_FOLDS = "data.folds"


def folds_of(config: DictConfig, words: Sequence[str]) -> str | None:
    """The word that sweeps all folds, where ``data.folds`` is given and nobody says which fold is meant.

    Args:
        config: The sweep's own composed configuration.
        words: The command line's overrides.
    """
    folds = OmegaConf.select(config, _FOLDS)
    said = any(_key(word) == FOLD for word in words) or OmegaConf.select(config, FOLD) is not None
    searched = OmegaConf.select(config, "hydra.sweeper.sampler") is not None
    if not isinstance(folds, int) or isinstance(folds, bool) or said or searched:
        return None
    return f"{FOLD}={','.join(map(str, range(folds)))}"


def is_refitted(config: DictConfig) -> bool:
    """Whether all folds are trained, and then the setting to keep on every image (``data.refit``)."""
    return bool(OmegaConf.select(config, "data.refit")) and OmegaConf.select(config, FOLD) is None


def refit(words: Sequence[str]) -> list[str]:
    """A fold's words for the training on every image."""
    return [*(word for word in words if _key(word) != FOLD), f"{FOLD}={EVERY}"]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
