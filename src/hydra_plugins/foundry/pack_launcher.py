"""``hydra/launcher=pack``: jobs train in packs, in a worker process (a facade of ``lora_foundry.launch``)."""

# No annotations from __future__: Hydra runs this module before it is in sys.modules, where dataclass looks them up.

import atexit
from collections.abc import Sequence
from dataclasses import field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lora_foundry.config.launcher import Settings

if TYPE_CHECKING:
    from lora_foundry.launch.farm.launching import Launching


def _sweep_id() -> str:
    from lora_foundry.launch.records.folders import new_token

    return new_token()


OmegaConf.register_new_resolver("sweep_id", _sweep_id, use_cache=True, replace=True)


_HINTS = get_type_hints(Settings)
PackLauncherConf = make_dataclass(
    "PackLauncherConf",
    [
        ("_target_", str, field(default="hydra_plugins.foundry.pack_launcher.PackLauncher")),
        *((option.name, _HINTS[option.name], field(default=option.default)) for option in fields(Settings)),
    ],
    namespace={"__module__": __name__},  # what is composed is pickled, and found again by name
)
"""The launcher's node in Hydra's configuration: the options of :class:`lora_foundry.config.launcher.Settings`."""

ConfigStore.instance().store(group="hydra/launcher", name="pack", node=PackLauncherConf, provider="lora-foundry")


class PackLauncher(Launcher):
    """Gives each override list its JobReturn, in order; one job's failure is one job's failure."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # of Settings
        self._options = options
        self._launching: Launching | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take in what Hydra knows; nothing is started."""
        del task_function  # jobs run in a worker process, which reads their stored configuration
        from lora_foundry.launch.farm.launching import Launching
        from lora_foundry.launch.points.driving import SweepContext
        from lora_foundry.wiring.outside import outside

        settings = Settings.of(self._options)
        self._launching = Launching(hydra_context.config_loader, config, settings, outside())
        if isinstance(hydra_context, SweepContext):
            hydra_context.at_end.push(self._launching.ending)
        else:  # somebody else's program drives Hydra
            atexit.register(self._launching.end)

    @property
    def launching(self) -> "Launching":
        """What this facade delegates to.

        Raises:
            RuntimeError: Before :meth:`setup`.
        """
        if self._launching is None:
            msg = "setup() comes first"
            raise RuntimeError(msg)
        return self._launching

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the jobs of ``job_overrides``."""
        return self.launching.train(job_overrides, initial_job_idx)
