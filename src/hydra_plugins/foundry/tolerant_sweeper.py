"""``hydra/sweeper=tolerant``, ``=optuna`` and ``=pbt``: every point is checked first, and no job ends the others.

They are one node with one option's difference, so that a named sweep says ``sampler: tpe`` and is a search: Hydra lets
no file but the primary one choose ``hydra/sweeper``.
"""

# No annotations from __future__: Hydra runs this module before it is in sys.modules, where dataclass looks them up.

from dataclasses import MISSING, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lora_foundry.config.search import PBT, SearchOptions

if TYPE_CHECKING:
    from dataclasses import Field

    from hydra.plugins.launcher import Launcher


def _default(option: "Field[Any]") -> Any:  # noqa: ANN401
    factory = option.default_factory
    value = option.default if factory is MISSING else factory()
    if isinstance(value, (tuple, dict)):
        return field(default_factory=lambda: list(value) if isinstance(value, tuple) else dict(value))
    return field(default=value)


SweeperConf = make_dataclass(
    "SweeperConf",
    [
        ("_target_", str, field(default="hydra_plugins.foundry.tolerant_sweeper.TolerantSweeper")),
        *((option.name, Any, _default(option)) for option in fields(SearchOptions)),
    ],
    namespace={"__module__": __name__},  # what is composed is pickled, and found again by name
)
"""The sweeper's node in Hydra's configuration: the options of :class:`lora_foundry.config.search.SearchOptions`."""

_STORE = ConfigStore.instance()
_STORE.store(group="hydra/sweeper", name="tolerant", node=SweeperConf, provider="lora-foundry")
_STORE.store(group="hydra/sweeper", name="optuna", node=SweeperConf(sampler="tpe"), provider="lora-foundry")
_STORE.store(group="hydra/sweeper", name="pbt", node=SweeperConf(sampler=PBT), provider="lora-foundry")


class TolerantSweeper(Sweeper):
    """The product of all swept values, as one batch; with a sampler, one trial after the other."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # of SearchOptions
        plain = {key: OmegaConf.to_container(one) if OmegaConf.is_config(one) else one for key, one in options.items()}
        self._options: dict[str, Any] = plain
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
        """Check every point, then launch them all; results as Hydra's own sweeper gives them. A search gives none."""
        if self._context is None or self._launcher is None or self._config is None:
            msg = "setup() comes first"
            raise RuntimeError(msg)
        loader = self._context.config_loader
        if self._options.get("sampler") is None:
            from lora_foundry.launch.farm.sweeping import sweep

            return sweep(loader, self._config, self._launcher, self._options, arguments)
        if self._options["sampler"] == PBT:
            from lora_foundry.search.evolving import evolve as run
        else:
            from lora_foundry.search.sweeping import search as run

        run(loader, self._config, self._launcher, self._options, arguments)
        return []
