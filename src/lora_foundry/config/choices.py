"""Choices that are files: which there are, and what a configuration asks of one.

An optimizer, a schedule: each is a file in the package of its kind, and its name is the file's. So the names are a list
of files, and a wrong one is refused before anything is imported. At its end such a file has ``CHOICE``, which tells in
one place what the choice allows, what it costs and how it is built. It is light: torch and the like are imported where
it builds, for whoever builds.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any, ClassVar, TypeVar


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Keys of a choice's own; this one is of those that have none.

    A field is annotated as those of the schema are, limits included. Its default is what a job trains with that does
    not say; it stands in no digest, so a field that comes later changes none.
    """


class Choice:
    """What a configuration asks of any choice.

    Attributes:
        options: The keys that it alone has.
    """

    options: ClassVar[type[Options]] = Options

    def problems(self, group: Any, /) -> list[str]:  # noqa: ANN401, ARG002  # each kind is chosen in a group of its own
        """What does not suit this choice, a line each.

        Args:
            group: The sound group that it is chosen in.
        """
        return []

    def misfits(self, groups: Mapping[str, Any], /) -> list[str]:  # noqa: ARG002
        """What of another group does not suit this choice, a line each.

        Args:
            groups: The sound groups by name, the one that it is chosen in among them; another may be missing.
        """
        return []


_C = TypeVar("_C", bound=Choice)


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of one kind.

    Attributes:
        key: Where one is chosen (``optimizer.name``).
        package: Whose files they are, by its dotted name: a room above is asked for what it has, and not imported.
    """

    key: str
    package: str

    @property
    def group(self) -> str:
        """The group that it is chosen in."""
        return self.key.rpartition(".")[0]

    @property
    def field(self) -> str:
        """The field of that group."""
        return self.key.rpartition(".")[2]

    def names(self) -> tuple[str, ...]:
        """Every choice, sorted."""
        return _names(self.package)

    def chosen(self, group: object) -> tuple[str, ...]:
        """What was chosen in a sound group: one, several where a list is asked for, none where it is null."""
        value = getattr(group, self.field)
        return value if isinstance(value, tuple) else () if value is None else (value,)

    def load(self, name: str, kind: type[_C]) -> _C:
        """The choice of that name.

        Raises:
            LookupError: When there is none.
            TypeError: When its file has no ``CHOICE`` of that ``kind``.
        """
        if name not in self.names():
            msg = f"{self.key}: got {name!r}, allowed is one of {', '.join(self.names())}"
            raise LookupError(msg)
        module = import_module(f"{self.package}.{name}")
        choice = getattr(module, "CHOICE", None)
        if not isinstance(choice, kind):
            msg = f"{module.__file__}: CHOICE is {choice!r}, needed is a {kind.__name__} ({kind.__module__})"
            raise TypeError(msg)
        return choice


@dataclass(frozen=True, slots=True)
class OptionsOf:
    """Marks the field that holds the options of whatever was chosen among ``choices``."""

    choices: Choices


@functools.cache
def _names(package: str) -> tuple[str, ...]:
    spec = find_spec(package)
    folders = None if spec is None else spec.submodule_search_locations
    return tuple(sorted(found.name for found in iter_modules(folders)))


def given_options(options: Options) -> dict[str, object]:
    """The options with another value than their default."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    return {name: value for name, value in values.items() if value != defaults[name]}


ADAPTER_KINDS = Choices("lora.kind", "lora_foundry.lora.kinds")
FAMILIES = Choices("model.family", "lora_foundry.models.families")
FORMATS = Choices("data.captions", "lora_foundry.data.formats")
METRICS = Choices("validation.metrics", "lora_foundry.tasks.metrics")
OPTIMIZERS = Choices("optimizer.name", "lora_foundry.training.optimizers")
SAMPLERS = Choices("sample.sampler", "lora_foundry.models.samplers")
SCHEDULES = Choices("scheduler.name", "lora_foundry.training.schedules")
CHOICES = (ADAPTER_KINDS, FAMILIES, FORMATS, METRICS, OPTIMIZERS, SAMPLERS, SCHEDULES)
"""Every kind of choice of a job."""
ENGINES = Choices("hydra.launcher.engine", "lora_foundry.launch.machines.engines")
PRUNERS = Choices("hydra.launcher.pruner", "lora_foundry.search.pruners")
SEARCHERS = Choices("hydra.sweeper.sampler", "lora_foundry.search.samplers")
