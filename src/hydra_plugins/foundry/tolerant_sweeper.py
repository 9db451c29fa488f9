"""``hydra/sweeper=tolerant``: Hydra's sweep syntax, every point checked first, no job ends the others."""

# No annotations from __future__: Hydra runs this module before it is in sys.modules, where dataclass looks them up.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher


@dataclass
class TolerantSweeperConf:
    """Options of the sweeper.

    Attributes:
        params: Key to values in sweep syntax (named sweeps fill it); the command line comes after it.
    """

    _target_: str = "hydra_plugins.foundry.tolerant_sweeper.TolerantSweeper"
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="tolerant", node=TolerantSweeperConf, provider="lora-foundry")


class TolerantSweeper(Sweeper):
    """The product of all swept values, as one batch."""

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self._params = dict(params or {})
        self._context: HydraContext | None = None
        self._launcher: Launcher | None = None
        self._config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher that ``hydra/launcher`` names."""
        from hydra.core.plugins import Plugins

        self._context, self._config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[list[JobReturn]]:
        """Check every point, then launch them all; results as Hydra's own sweeper gives them."""
        if self._context is None or self._launcher is None or self._config is None:
            msg = "setup() comes first"
            raise RuntimeError(msg)
        from lora_foundry.launch.farm.sweeping import sweep

        return sweep(self._context.config_loader, self._config, self._launcher, self._params, arguments)
