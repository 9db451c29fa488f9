"""The whole configuration of one job, as frozen values.

YAML under ``conf/`` holds the defaults; this file holds the types, the limits and the units. Every
field is required here, so that a default lives in one place only. Constraints stand in the annotation
and are read by :mod:`lora_foundry.config.parse`. Where bases of one family have keys of their own, the group's class is
the family's (:mod:`lora_foundry.config.families`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lora_foundry.config.choices import (
    ADAPTER_KINDS,
    FAMILIES,
    FORMATS,
    OPTIMIZERS,
    SAMPLERS,
    SCHEDULES,
    Options,
    OptionsOf,
)
from lora_foundry.config.constraints import AtLeast, Between, MoreThan, NonEmpty, PathText, Pattern, Untried
from lora_foundry.config.families import ByFamily
from lora_foundry.config.schema_results import ExportConfig, ValidationConfig

Precision = Literal["auto", "32-true", "16-mixed", "bf16-true", "bf16-mixed", "64-true"]
PRESETS = ("attention", "attention-mlp", "all-linear", "all-blocks", "all")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The frozen base.

    Attributes:
        name: Short name used in logs, tags and file metadata.
        family: Which loader understands it, a folder in ``src/lora_foundry/models/families`` (``sd`` is Stable
            Diffusion with a UNet; ``sdxl`` can be sized only).
        path: Folder in diffusers' format, a single ``.safetensors`` file, or a hub id.
        config: Folder with the configs and the tokenizer for a single file; null for folders.
        revision: Hub revision; null takes the default branch.
        stride: Pixels per latent cell times the UNet's own reduction; resolution must be a multiple.
    """

    name: Annotated[str, NonEmpty()]
    family: Annotated[str, FAMILIES]
    path: PathText
    config: PathText | None
    revision: str | None
    stride: Annotated[int, AtLeast(1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Captioned images.

    Attributes:
        name: Short name, used in adapter names (``flat-rank8``).
        path: Folder with training images and their captions.
        val_path: Folder with held-out images; null holds out ``val_fraction`` of ``path``.
        val_fraction: Share of the images held out when ``val_path`` is null, chosen by content; 0 trains on all
            of them and validates on the same.
        folds: Cross-validation: ``path`` is divided by content into so many parts, and each point becomes so many jobs,
            each of which holds another part out; null divides nothing.
        fold: Which part a job holds out, counted from 0; ``all`` holds none out. Null stands for each of them.
        refit: Once all folds are judged, the setting to keep is trained on every image, in the same sweep.
        batch_size: Samples of one micro-batch.
        resolution: Side of the square training image, pixels.
        crop: ``center`` resizes the short side and crops; ``random`` crops at one of
            ``crop_variants`` fixed places; ``none`` resizes both sides to the square.
        crop_variants: How many crops of an image are cached when ``crop=random``.
        flip: Mirror a sample left to right half of the time.
        background: Colour put behind transparent pixels (any Pillow colour name or ``#rrggbb``).
        caption_dropout: Probability of an empty caption (classifier-free guidance, Ho & Salimans 2022).
        caption_prefix: Text put before each caption (a trigger word); empty for none.
        captions: Where they come from, each a file in ``src/lora_foundry/data/formats``: ``auto`` is a table, else a
            file beside each image; ``csv`` and ``jsonl`` are such tables alone; ``files`` is the files beside the
            images whatever table there is; ``folder`` and ``name`` are the folder's and the image's own name;
            ``prefix`` is ``caption_prefix`` alone.
        repeats: ``auto`` takes a folder ``10_anna woman`` as kohya's trainers do: ten times as often, and its words
            for images without a caption; ``none`` takes it as any name, as does null, which jobs have that began
            before this key was there.
        follow_links: Read linked images, captions and folders that lie outside the data folder.
        without: Images of ``path`` that are not trained on; held-out ones stay held out. A name from there on, in
            which ``*`` stands for anything (``holiday/*``), or ``tag:`` and words of a caption. In an epoch others take
            their places, so that all the rest of a training is as it would be with them.
        prompts: Which held-out captions are drawn where ``sample.prompts`` is empty; empty takes the first.
        on_bad: What to do with bad rows: ``error`` stops, ``skip`` lists them and goes on.
        cache_dir: Folder of the content-addressed cache.
    """

    name: Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters a to z, digits, '.', '_' and '-'")]
    path: PathText
    val_path: PathText | None
    val_fraction: Annotated[float, Between(0.0, 0.5)]
    folds: Annotated[int, Between(2, 64)] | None
    fold: Annotated[int, AtLeast(0)] | Literal["all"] | None
    refit: bool
    batch_size: Annotated[int, Between(1, 4096)]
    resolution: Annotated[int, Between(8, 4096)]
    crop: Literal["center", "random", "none"]
    crop_variants: Annotated[int, Between(1, 64)]
    flip: bool
    background: Annotated[str, NonEmpty()]
    caption_dropout: Annotated[float, Between(0.0, 1.0)]
    caption_prefix: str
    captions: Annotated[str, FORMATS]
    repeats: Literal["auto", "none"] | None
    follow_links: bool
    without: tuple[Annotated[str, NonEmpty()], ...]
    prompts: tuple[str, ...]
    on_bad: Literal["error", "skip"]
    cache_dir: PathText


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """One adapter.

    Attributes:
        kind: What is trained in each layer; ``lora`` is ``B A`` of low rank (Hu et al. 2021).
        rank: Rank of the update.
        alpha: Scale numerator, already resolved: null in YAML means equal to rank, ``0.5x`` half of it.
        dropout: Probability of dropping an input element of the LoRA branch.
        target_modules: A preset's name, or a list of module-name endings.
        use_rslora: Scale by alpha/sqrt(rank) instead of alpha/rank (Kalajdzievski 2023).
        init: Initialisation of A (B is zero): ``kaiming`` or ``gaussian``.
        init_from: Adapter file to continue from, of either image format, or a folder that PEFT or diffusers saved;
            null starts fresh.
        options: Keys that this kind alone has.
    """

    kind: Annotated[str, ADAPTER_KINDS]
    rank: Annotated[int, Between(1, 1024)]
    alpha: Annotated[float, MoreThan(0.0)]
    dropout: Annotated[float, Between(0.0, 0.99)]
    target_modules: str | tuple[str, ...]
    use_rslora: bool
    init: Literal["kaiming", "gaussian"]
    init_from: PathText | None
    options: Annotated[Options, OptionsOf(ADAPTER_KINDS)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveConfig:
    """The training loss; its keys are those of the family (``model.family``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """The optimizer of one member.

    Attributes:
        name: ``adamw`` runs over the whole pack at once; the others run over per-member views.
        lr: Peak learning rate (Prodigy wants 1.0).
        betas: Exponential decay of the first and second moment.
        eps: Term added to the denominator.
        weight_decay: Decoupled weight decay.
        options: Keys that this optimizer alone has.
    """

    name: Annotated[str, OPTIMIZERS]
    lr: Annotated[float, MoreThan(0.0)]
    betas: tuple[float, ...]
    eps: Annotated[float, MoreThan(0.0)]
    weight_decay: Annotated[float, Between(0.0, 10.0)]
    options: Annotated[Options, OptionsOf(OPTIMIZERS)]


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulerConfig:
    """The learning rate over a member's own optimizer steps.

    Attributes:
        name: Shape after the warm-up.
        warmup_steps: Optimizer steps of linear warm-up; null takes a tenth of the training, at most 10.
        min_lr_ratio: Final learning rate divided by the peak (cosine and linear).
        options: Keys that this schedule alone has.
    """

    name: Annotated[str, SCHEDULES]
    warmup_steps: Annotated[int, AtLeast(0)] | None
    min_lr_ratio: Annotated[float, Between(0.0, 1.0)]
    options: Annotated[Options, OptionsOf(SCHEDULES)]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """How long and how a member trains.

    Attributes:
        max_steps: Optimizer steps.
        epochs: Passes over the training images; where given it decides instead of ``max_steps``.
        patience: Samples seen without a lower validation loss after which a member ends; null trains the whole length.
            A schedule is of the whole length whatever patience does.
        accumulate: Micro-batches of one optimizer step.
        max_grad_norm: The member's gradient is clipped to this norm; null for no clipping.
        gradient_checkpointing: Recompute activations in the backward pass.
        precision: Lightning's names; base in the compute dtype, adapters fp32 (fp64 in ``64-true``). ``auto`` is
            bf16-mixed where every card computes bf16 by itself, 16-mixed (fp16, with a loss scale a member) on older
            cards and 32-true on the CPU; what it was for a job stays with the job.
        deterministic: Kernels that give the same bits in every repeat on one model of card; slower.
        log_every: Optimizer steps between logged metrics.
        save_every: Optimizer steps between exported adapters, all of which stay.
        keep_best: How many adapters are kept by validation loss, each exported when it is scored; by the best of them a
            job is compared. Null exports none for its score: the best is one of those that are exported anyway.
        average: How many adapters, the last and those of ``save_every`` before it, are averaged at the end: the mean is
            scored and exported beside the last, and may be the best. Null averages none.
        checkpoint_every: Optimizer steps between checkpoints; null takes one by ``checkpoint_s`` only.
        checkpoint_s: Seconds between checkpoints.
        accelerator: Device kind; ``auto`` takes the GPU when there is one.
    """

    max_steps: Annotated[int, AtLeast(1)] | None
    epochs: Annotated[float, MoreThan(0.0)] | None
    patience: Annotated[int, AtLeast(1)] | None
    accumulate: Annotated[int, Between(1, 4096)]
    max_grad_norm: Annotated[float, MoreThan(0.0)] | None
    gradient_checkpointing: bool
    precision: Precision
    deterministic: bool
    log_every: Annotated[int, AtLeast(1)]
    save_every: Annotated[int, AtLeast(1)] | None
    keep_best: Annotated[int, AtLeast(1)] | None
    average: Annotated[int, Between(2, 64)] | None
    checkpoint_every: Annotated[int, AtLeast(1)] | None
    checkpoint_s: Annotated[float, MoreThan(0.0)]
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], Untried("Apple's mps")]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryConfig:
    """What happens when memory is short.

    Attributes:
        mode: ``exact`` keeps the result: fewer adapters a forward, then smaller micro-batches with more
            accumulation, then gradient checkpointing. ``classic`` changes what is trained: batch, rank with alpha,
            resolution, then checkpointing.
        limit_gib: Most memory of a worker on its device, GiB (on the CPU its whole process); null takes what there is.
        may_change: What ``exact`` may change once nothing else helps; alpha keeps its ratio to rank.
    """

    mode: Literal["exact", "classic"]
    limit_gib: Annotated[float, MoreThan(0.0)] | None
    may_change: tuple[Literal["resolution", "rank"], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """The pictures drawn from fixed prompts and seeds.

    Attributes:
        enabled: False draws nothing (``sample=none``).
        prompts: What is drawn, as written; empty takes captions of the held-out images (``data.prompts``).
        with_prefix: Put ``data.caption_prefix`` before each of ``prompts``, as it is before each caption.
        seeds: One picture a prompt and seed.
        scales: Adapter scales; 0 is the base.
        every: Optimizer steps between drawings; ``auto`` leaves twelve samples of training to each row that is drawn
            with, whatever the batch (1,920 by default); null draws at the start and the end only.
        sampler: How noise becomes a picture, a file in ``src/lora_foundry/models/samplers``; null takes the one that
            suits the base's noise.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale; 1 turns it off.
    """

    enabled: bool
    prompts: tuple[str, ...]
    with_prefix: bool
    seeds: tuple[int, ...]
    scales: tuple[float, ...]
    every: Annotated[int, AtLeast(1)] | Literal["auto"] | None
    sampler: Annotated[str, SAMPLERS] | None
    steps: Annotated[int, Between(1, 1000)]
    guidance: Annotated[float, Between(1.0, 50.0)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryConfig:
    """Where a sweep's winner is registered as a version of a model, in MLflow's registry.

    Attributes:
        name: Of the model that each winner becomes a version of, the newest with the alias ``best``; null registers
            nothing.
    """

    name: Annotated[str, Pattern(r"[^/:]+", "a text without '/' and ':'")] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Where runs are recorded.

    Attributes:
        enabled: False records nothing in MLflow (``tracking=none``).
        uri: Tracking server or database; null takes ``MLFLOW_TRACKING_URI``, or ``sqlite`` in ``root``.
        root: Folder of the database and the artifacts.
        experiment: MLflow experiment's name; null takes ``MLFLOW_EXPERIMENT_NAME``, or ``lora-foundry``.
        run_name: Name of the sweep's own run; null takes ``MLFLOW_RUN_NAME``, or says what was swept.
        flush_s: Seconds between two batches sent to MLflow.
    """

    enabled: bool
    uri: PathText | None
    root: PathText
    experiment: Annotated[str, NonEmpty()] | None
    run_name: Annotated[str, NonEmpty()] | None
    flush_s: Annotated[float, Between(0.1, 60.0)]
    registry: RegistryConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class JobConfig:
    """One point of a sweep: everything that yields one adapter.

    Attributes:
        name: Adapter's name; null derives one that tells what it is.
        seed: Root of all the job's randomness.
        resume: Job folder to continue; null starts a new job.
    """

    name: Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters a to z, digits, '.', '_' and '-'")] | None
    seed: Annotated[int, Between(0, 2**63 - 1)]
    resume: PathText | None
    model: Annotated[ModelConfig, ByFamily("model")]
    data: DataConfig
    lora: LoraConfig
    objective: Annotated[ObjectiveConfig, ByFamily("objective")]
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    memory: MemoryConfig
    validation: ValidationConfig
    sample: SampleConfig
    export: ExportConfig
    tracking: TrackingConfig
