"""The stages of the recipe, in order: fetch, styles, vae, diffusion, export, sheet."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from recipes.tiny_sd.card import Measured, write_card
from recipes.tiny_sd.diffusion import DiffusionTrainee
from recipes.tiny_sd.export import build_pipeline, export
from recipes.tiny_sd.fetch import fetch, read_entries
from recipes.tiny_sd.loop import Schedule, Training
from recipes.tiny_sd.sheet import PROMPTS, draw_sheet
from recipes.tiny_sd.sizes import new_vae
from recipes.tiny_sd.styles import HELD_OUT, TRAIN, write_styles
from recipes.tiny_sd.subjects import Subject, choose
from recipes.tiny_sd.vae import centre_latents, encode, read_subject_pictures, read_vae_pictures, reconstruction_error
from recipes.tiny_sd.words import train_tokenizer

STAGES = ("fetch", "styles", "vae", "diffusion", "export", "sheet")
VAE_RATE = 1e-3
DIFFUSION_RATE = 8e-4
FIRST_EXPORT_MINUTES = 12.0
EXPORT_EVERY_MINUTES = 20.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Where the recipe works and how long it trains.

    Attributes:
        work: Downloads, checkpoints and `log.txt`.
        assets: Folder of the results.
        minutes: Training minutes of the diffusion stage.
        vae_minutes: Training minutes of the autoencoder.
        threads: CPU threads.
    """

    work: Path
    assets: Path
    minutes: float
    vae_minutes: float
    threads: int = 2

    def run(self, stages: tuple[str, ...]) -> None:
        """Run stages by name, each one resumable."""
        torch.set_num_threads(self.threads)
        self.work.mkdir(parents=True, exist_ok=True)
        actions = {
            "fetch": lambda: fetch(self.work),
            "styles": lambda: write_styles(self.work, self.assets, self.subjects),
            "vae": self.train_vae,
            "diffusion": self.train_diffusion,
            "export": lambda: self.export(self.diffusion_training()),
            "sheet": lambda: draw_sheet(self.base),
        }
        for stage in stages:
            self.log(f"stage {stage}")
            actions[stage]()

    @property
    def base(self) -> Path:
        """Folder of the exported base."""
        return self.assets / "tiny-sd"

    @cached_property
    def subjects(self) -> list[Subject]:
        """The subjects, in the order of the emoji list."""
        return choose(read_entries(self.work))

    def log(self, line: str) -> None:
        """Print a line and append it to `log.txt`."""
        stamped = f"{time.strftime('%H:%M:%S')} {line}"
        print(stamped, flush=True)
        with (self.work / "log.txt").open("a", encoding="utf-8") as file:
            file.write(stamped + "\n")

    def vae_training(self) -> Training:
        """Return the autoencoder's training, resumed where it was."""
        torch.manual_seed(0)
        schedule = Schedule(learning_rate=VAE_RATE, minutes=self.vae_minutes)
        return Training(read_vae_pictures(self.work), schedule, self.work / "vae.pt", self.log)

    def train_vae(self) -> None:
        """Train the autoencoder and log how well it copies the subjects."""
        self.vae_training().run()
        error = reconstruction_error(self.trained_vae, self.pictures)
        self.log(f"vae reconstruction error {error:.4f} scaling factor {self.trained_vae.config.scaling_factor:.3f}")

    @cached_property
    def pictures(self) -> torch.Tensor:
        """The subjects' drawings on white, `[N, 3, 64, 64]` in -1 to 1."""
        return read_subject_pictures(self.work, [subject.image for subject in self.subjects])

    @cached_property
    def trained_vae(self) -> AutoencoderKL:
        """The averaged autoencoder of the checkpoint, its latents centred."""
        state = torch.load(self.work / "vae.pt", weights_only=True)
        vae = new_vae()
        vae.load_state_dict({name.removeprefix("vae."): value for name, value in state["average"].items()})
        centre_latents(vae.eval(), self.pictures)
        return vae

    def diffusion_training(self) -> Training:
        """Return the training of UNet and text encoder, resumed where it was."""
        latents = encode(self.trained_vae, self.pictures) * self.trained_vae.config.scaling_factor
        trainee = DiffusionTrainee(self.subjects, latents, train_tokenizer(self.subjects), favoured=self.favoured)
        schedule = Schedule(learning_rate=DIFFUSION_RATE, minutes=self.minutes)
        return Training(trainee, schedule, self.work / "diffusion.pt", self.log)

    @property
    def favoured(self) -> frozenset[str]:
        """Keys of the subjects of the datasets and of the contact sheet, which the base shall know best."""
        drawn = {subject.key for subject in self.subjects if subject.caption in PROMPTS}
        return frozenset({*TRAIN, *HELD_OUT, *drawn})

    def train_diffusion(self) -> None:
        """Train UNet and text encoder, exporting what there is now and then."""
        next_export = FIRST_EXPORT_MINUTES

        def maybe_export(training: Training) -> None:
            nonlocal next_export
            if training.progress.seconds >= 60.0 * next_export:
                next_export = training.progress.seconds / 60.0 + EXPORT_EVERY_MINUTES
                self.export(training)

        self.diffusion_training().run(on_save=maybe_export)

    def export(self, training: Training) -> None:
        """Write the averaged weights as a Stable Diffusion folder with its card."""
        averaged = self.averaged_pipeline(training)
        export(averaged, self.base)
        vae_state = torch.load(self.work / "vae.pt", weights_only=True)["progress"]
        measured = Measured(
            vae_steps=vae_state["step"],
            vae_minutes=vae_state["seconds"] / 60.0,
            vae_error=reconstruction_error(self.trained_vae, self.pictures),
            steps=training.progress.step,
            minutes=training.progress.seconds / 60.0,
            loss=training.progress.loss,
            subjects=len(self.subjects),
            favoured=len(self.favoured),
            parameters={
                name: sum(weight.numel() for weight in averaged.components[name].parameters())
                for name in ("unet", "text_encoder", "vae")
            },
        )
        write_card(self.base, measured)
        (self.base / "prompts.txt").write_text("".join(f"{one.caption}\n" for one in self.subjects), encoding="utf-8")
        self.log(f"exported step {training.progress.step} to {self.base}")

    def averaged_pipeline(self, training: Training) -> StableDiffusionPipeline:
        """Return a pipeline of the averaged weights; the training goes on undisturbed."""
        trainee = training.trainee
        assert isinstance(trainee, DiffusionTrainee)  # noqa: S101 - narrows the type
        fresh = DiffusionTrainee(self.subjects, trainee.latents, trainee.tokenizer)
        for name, state in training.averaged().items():
            fresh.modules[name].load_state_dict(state)
        return build_pipeline(self.trained_vae, fresh.unet.eval(), fresh.text_encoder.eval(), trainee.tokenizer)
