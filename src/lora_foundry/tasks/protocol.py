"""What a task offers to a pack: rows and their losses, fixed rows to be judged on, what is shown, what is exported.

A pack joins members, runs the base once and steps optimizers; what a row is, and what is asked of the base for it, is
the task's. A task belongs to one base in memory and serves pack after pack. Torch is imported where rows are made: what
is measured is chosen where there is none.

Shape legend: N rows, K members, V fixed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from lora_foundry.config import JobConfig
    from lora_foundry.config.warned import Warned
    from lora_foundry.data.cache import TensorCache
    from lora_foundry.data.inventory import Inventory
    from lora_foundry.data.order import SampleOrder
    from lora_foundry.lora.bank import AdapterBank
    from lora_foundry.lora.formats.adapter import Adapter
    from lora_foundry.lora.formats.metadata import FileMetadata
    from lora_foundry.models.protocol import Base, BaseFiles

T = TypeVar("T")
Inputs = dict[str, "Tensor"]
"""What a task feeds the base with and compares its answer with: name to tensor ``[N, ...]``, on the CPU."""


def part_of(inputs: Inputs, rows: slice) -> Inputs:
    """Some of the rows."""
    return {name: values[rows] for name, values in inputs.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRows:
    """Rows of one micro-batch.

    Attributes:
        inputs: The rows.
        weight: How much each row's loss counts, ``[N]``.
    """

    inputs: Inputs
    weight: Tensor

    def part(self, rows: slice) -> StepRows:
        """Some of the rows."""
        return StepRows(inputs=part_of(self.inputs, rows), weight=self.weight[rows])

    @staticmethod
    def joined(parts: Sequence[StepRows]) -> StepRows:
        """The rows of all ``parts``, one after another; all have the same names."""
        import torch

        return StepRows(
            inputs={name: torch.cat([part.inputs[name] for part in parts]) for name in parts[0].inputs},
            weight=torch.cat([part.weight for part in parts]),
        )


@dataclass(kw_only=True, slots=True)
class FixedRows:
    """The V rows that members with the same held-out data are judged on, whatever else they are.

    Attributes:
        inputs: The rows.
        per_forward: Most rows of one forward; fewer once memory ran out.
        groups: Rows whose mean loss is told by itself, by the name that it is told under: booleans ``[V]``, one true.
        items: What each row is of, such as an image that is judged at several levels of noise: V names, by which
            members are compared item by item; none where each row is an item by itself.
        called: What people call the items, in the plural.
    """

    inputs: Inputs
    per_forward: int
    groups: dict[str, Tensor] = field(default_factory=dict)
    items: tuple[str, ...] = ()
    called: str = "rows"

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def digest(self) -> str:
        """Hex digest of everything in the rows that decides their losses."""
        from lora_foundry.data.cache import digest_of

        return digest_of(self.inputs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What metrics are taken of (:mod:`lora_foundry.tasks.metrics`): some rows as the base answered them.

    Attributes:
        losses: As of :meth:`Task.losses`, ``[N]``.
        prediction: What the base gave, ``[N, ...]``.
        target: What it is compared with, like ``prediction``.
    """

    losses: Tensor
    prediction: Tensor
    target: Tensor


class Sound(Protocol):
    """A job's data, read and found sound; what it consists of, its task knows."""

    @property
    def data_hash(self) -> str:
        """Hex digest of all that is learned from and judged on."""

    @property
    def warnings(self) -> tuple[Warned, ...]:
        """What people are warned of, which stops nothing."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was left out of it, a line each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a member is made with.

    Attributes:
        material: What it learns from, as its task has it.
        repeats: How often each of its samples counts in an epoch.
        gaps: Places of an unshuffled epoch whose samples are left out (:class:`lora_foundry.data.order.SampleOrder`).
        inventory: The data file by file; None for data that is no files.
    """

    material: Any
    repeats: Sequence[int]
    gaps: Sequence[int] = ()
    inventory: Inventory | None = None


Patience = Callable[[Any, "torch.device"], Any]
"""Wraps an encoder so that it can be stopped between two batches, and gives way where memory is short."""


class Preparation(Protocol):
    """From jobs' configurations to what their members learn from; jobs with equal data share it."""

    def key(self, config: JobConfig) -> object:
        """Equal for jobs whose data is read and found sound once."""

    def check(self, config: JobConfig, files: BaseFiles) -> Sound:
        """Read a job's data and look at all of it, before any weight is.

        Raises:
            lora_foundry.data.records.DataError: With everything that is wrong with it.
        """

    def warnings(self, config: JobConfig, files: BaseFiles, data: Sound) -> list[Warned]:
        """What people are warned of besides, of this job."""

    def make(  # what it is made of
        self,
        config: JobConfig,
        files: BaseFiles,
        data: Sound,
        *,
        device: torch.device,
        cache: TensorCache,
        patience: Patience,
        log: Callable[[str], None],
    ) -> Made:
        """The material of one job.

        Args:
            config: The job's.
            files: Its base.
            data: What :meth:`check` found.
            device: Where to encode.
            cache: Where encodings are kept.
            patience: What encoders are wrapped by.
            log: Is told of progress.

        Raises:
            lora_foundry.data.records.DataError: When an encoding is not finite.
            lora_foundry.models.protocol.BaseError: When an encoder cannot be read.
        """


class Trainee(Protocol):
    """What a task knows of a member."""

    @property
    def name(self) -> str:
        """The adapter's name."""

    @property
    def config(self) -> JobConfig:
        """The job's configuration."""

    @property
    def material(self) -> Any:  # noqa: ANN401  # each task has its own
        """What the task learns from, as the task's own preparation made it."""

    @property
    def order(self) -> SampleOrder:
        """Which sample comes next."""

    @property
    def base_hash(self) -> str:
        """Content hash of the base."""

    @property
    def cache(self) -> TensorCache | None:
        """Where what depends on the base alone is kept; None computes it in each pack."""


class Ground(Protocol):
    """What a task needs of a pack to run the base for several members at once."""

    @property
    def bank(self) -> AdapterBank:
        """Their adapters."""

    @property
    def device(self) -> torch.device:
        """Where the base lies."""

    @property
    def dtypes(self) -> Any:  # noqa: ANN401  # lora_foundry.training.precision.Dtypes
        """``base`` and ``adapter``."""

    def wary(self, *, unless: bool) -> AbstractContextManager[None]:
        """Let a shortage of memory end forwards, ``unless`` they can get no smaller."""

    def end_if_stopped(self) -> None:
        """Between two forwards that may take long: ends here where a stop was asked for."""

    def in_fewer_rows(self, call: Callable[[int], T], rows: int) -> tuple[T, int]:
        """``call(rows)``, and again with half the rows while memory runs out; the result and the rows it took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One thing that a member made of a prompt, to be looked at.

    Attributes:
        prompt: What was asked.
        seed: Its seed.
        scale: Strength of the adapter.
        file: A name for it, with the ending.
        key: Where it stands among others of its run.
        content: The file's bytes.
    """

    prompt: str
    seed: int
    scale: float
    file: str
    key: str
    content: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """The files of one adapter.

    Attributes:
        file: For people's programs.
        for_code: For code; where one file serves both, the same.
        card: What programs show of it.
    """

    file: Path
    for_code: Path
    card: Path


class Showing(Protocol):
    """Shows what the members of one pack have learned."""

    def show(self, members: Sequence[Trainee]) -> dict[str, list[Shown]]:
        """What each of ``members`` makes of its prompts, by name."""

    def measured(self) -> Mapping[str, Mapping[str, float]]:
        """Numbers of what was shown last, by metric, by the member's name; nothing where none were asked for."""


class Task(Protocol):
    """What is learned on one base."""

    @property
    def base(self) -> Base:
        """The base that adapters are put into."""

    def rows(self, member: Trainee, ordinals: range, dtype: torch.dtype) -> StepRows:
        """The samples of these ordinals: a function of the member's settings, its data and the ordinals alone."""

    def losses(self, inputs: Inputs) -> Tensor:
        """Run the base on ``inputs``; the loss of each row before any weight, ``[N]``, differentiable."""

    def judged(self, inputs: Inputs) -> Judged:
        """Run the base on ``inputs``, for metrics."""

    def whole(self, member: Trainee) -> float:
        """What the weighted losses of one optimizer step are divided by."""

    def samples(self, member: Trainee) -> int:
        """Samples that the member's data has: what makes an epoch."""

    def held_out(self, member: Trainee) -> object:
        """What the member is judged on; the same object for members that share it."""

    def fixed_rows(self, member: Trainee, dtype: torch.dtype) -> FixedRows:
        """The rows of ``held_out``."""

    def check_rows(self, member: Trainee, dtype: torch.dtype) -> FixedRows | None:
        """Rows of ``held_out`` that are not among :meth:`fixed_rows`; None where none are asked for, or left."""

    def drift_rows(self, member: Trainee, pack: Ground, dtype: torch.dtype) -> FixedRows | None:
        """Rows of ``validation.drift_prompts``, which the member does not learn from; None where there are none.

        On them its predictions are held against the base's own (:mod:`lora_foundry.training.drift`). Equal for members
        of one pack with equal ``validation``.
        """

    def decides(self) -> Mapping[str, object]:
        """What of the base decides a row's loss besides its weights."""

    def shows(self, member: Trainee) -> bool:
        """Whether there is anything to show of the member."""

    def showing(self, pack: Ground) -> Showing:
        """Shows what the members of ``pack`` have learned."""

    def probe(self, member: Trainee, dtype: torch.dtype) -> Inputs:
        """Two fixed rows on which an exported file is held against the live adapter."""

    def outputs(self, inputs: Inputs) -> Tensor:
        """What the base gives for them, ``[N, ...]``."""

    def file_metadata(self, member: Trainee, *, started_at: float) -> FileMetadata:
        """What exported files say of the base and the data; what all tasks say alike is filled in by the trainer."""

    def write(self, folder: Path, stem: str, adapter: Adapter, meta: FileMetadata, dtype: torch.dtype) -> Files:
        """Write the adapter's files into ``folder``, called ``stem``, in formats that this family's programs read.

        Raises:
            ExportError: When a value does not fit ``dtype``, or the formats have no word for something.
            OSError: When the disk is full or the folder cannot be written.
        """
