"""``hydra/sweeper=optuna``: the next point is asked of Optuna (a facade of ``lora_foundry.search``)."""

# No annotations from __future__: Hydra runs this module before it is in sys.modules, where dataclass looks them up.

from dataclasses import MISSING, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lora_foundry.config.search import SearchOptions

if TYPE_CHECKING:
    from dataclasses import Field

    from hydra.plugins.launcher import Launcher


def _default(option: "Field[Any]") -> Any:  # noqa: ANN401
    factory = option.default_factory
    value = option.default if factory is MISSING else factory()
    if isinstance(value, (tuple, dict)):
        return field(default_factory=lambda: list(value) if isinstance(value, tuple) else dict(value))
    return field(default=value)


OptunaSweeperConf = make_dataclass(
    "OptunaSweeperConf",
    [
        ("_target_", str, field(default="hydra_plugins.foundry.optuna_sweeper.OptunaSweeper")),
        *((option.name, Any, _default(option)) for option in fields(SearchOptions)),
    ],
    namespace={"__module__": __name__},  # what is composed is pickled, and found again by name
)
"""The sweeper's node in Hydra's configuration: the options of :class:`lora_foundry.config.search.SearchOptions`."""

ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="lora-foundry")


class OptunaSweeper(Sweeper):
    """Trials are asked for as places become free, and told as their jobs end."""

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

    def sweep(self, arguments: list[str]) -> None:
        """Search; what it found is on the screen, in MLflow and in the sweep's folder."""
        if self._context is None or self._launcher is None or self._config is None:
            msg = "setup() comes first"
            raise RuntimeError(msg)
        from lora_foundry.search.sweeping import search

        search(self._context.config_loader, self._config, self._launcher, self._options, arguments)
