"""Composing the points of one sweep: what they share is composed once, which makes the rest five times quicker."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.points.hydra_keys import settings_of

_PLAIN = re.compile(r"(?!hydra[./])([A-Za-z_]\w*(?:\.\w+)*)=")


class PassedOverError(SweepError):
    """A point that would have other settings of Hydra than its sweep, which has one for all.

    Attributes:
        keys: What differs.
        words: The point's words that are not the sweep's own, which choose files or set ``hydra.*``.
    """

    def __init__(self, keys: Sequence[str], words: Sequence[str]) -> None:
        self.keys, self.words = tuple(keys), tuple(words)
        super().__init__([f"{' '.join(words)}: {', '.join(keys)} would be passed over"])


class Composer:
    """Composes override lists as ``ConfigLoader.load_sweep_config`` does.

    Points of a sweep mostly differ in values alone (``lora.rank=4``), and Hydra takes some 90 ms to build the
    defaults list and merge every file anew for each. Here the words that choose files (``model=sd15``,
    ``hydra.*``) are composed once for each combination; the values are then set in a copy. Words of any other kind
    (``+``, ``~``, ``@``), and words that cannot be applied, are left to Hydra with all the others, whose message says
    what is wrong.

    Args:
        loader: Hydra's.
        master: The sweep's own composed configuration.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader = loader
        self._master = master
        self._shared: dict[tuple[str, ...], bytes] = {}  # pickled: read in a fifth of the time that a deep copy takes
        self._groups: dict[str, bool] = {}
        self._settings = settings_of(master)
        self._of_the_sweep = set(OmegaConf.to_container(master.hydra.overrides.task, resolve=False) or ())  # texts

    def compose(self, words: Sequence[str]) -> DictConfig:
        """The whole configuration of the point, ``hydra`` node included; the caller's own to change.

        Raises:
            hydra.errors.HydraException: When Hydra cannot compose it.
            PassedOverError: When it says something to Hydra that the sweep does not.
        """
        values = [word for word in words if self._is_value(word)]
        choices = tuple(word for word in words if word not in values)
        if all(word.startswith("hydra.") or self._is_choice(word) for word in choices):
            try:
                return self._quickly(words, values, choices)
            except OmegaConfBaseException:
                pass
        return self._composed(words)

    def _composed(self, words: Sequence[str]) -> DictConfig:
        """By Hydra, with the sweep's own settings of Hydra."""
        cfg = self._loader.load_sweep_config(self._master, list(words))
        found = settings_of(cfg)
        other = [key for key in {**self._settings, **found} if self._settings.get(key) != found.get(key)]
        if other:
            own = [word for word in words if word not in self._of_the_sweep and not self._is_value(word)]
            raise PassedOverError(other, own)
        return cfg

    def _quickly(self, words: Sequence[str], values: Sequence[str], choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._shared:
            self._shared[choices] = pickle.dumps(self._composed(choices))
        cfg: DictConfig = pickle.loads(self._shared[choices])  # noqa: S301  # written here
        OmegaConf.copy_cache(from_config=self._master, to_config=cfg)
        for override in OverridesParser.create().parse_overrides(list(values)):
            OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
        with read_write(cfg.hydra), open_dict(cfg.hydra):
            task = [word for word in words if not word.startswith("hydra.")]
            cfg.hydra.overrides.task = task
            cfg.hydra.job.override_dirname = _dirname(task, cfg.hydra.job.config.override_dirname)
        return cfg

    def _is_value(self, word: str) -> bool:
        found = _PLAIN.match(word)
        return found is not None and not self._is_group(found[1])

    def _is_choice(self, word: str) -> bool:
        key, equals, _ = word.partition("=")
        return bool(equals) and self._is_group(key)

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            self._groups[key] = "." not in key and bool(self._loader.get_group_options(key))
        return self._groups[key]


def _dirname(words: Sequence[str], settings: DictConfig) -> str:
    """Hydra's rule for ``hydra.job.override_dirname``: sorted words without the excluded keys."""
    kept = sorted(word for word in words if word.partition("=")[0] not in settings.exclude_keys)
    return str(settings.item_sep).join(kept).replace("=", str(settings.kv_sep))
