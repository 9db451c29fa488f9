"""Write the base's model card from what was measured while it trained."""

from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).with_name("model_card.md")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of the card.

    Attributes:
        vae_steps: Steps of the autoencoder.
        vae_minutes: Minutes it trained.
        vae_error: Mean absolute error of its copies of the subjects, range 0 to 1.
        steps: Steps of UNet and text encoder.
        minutes: Minutes they trained.
        loss: Mean loss of the last 50 steps.
        subjects: Number of subjects.
        favoured: How many of them were shown more often.
        parameters: Parameters of each part.
    """

    vae_steps: int
    vae_minutes: float
    vae_error: float
    steps: int
    minutes: float
    loss: float
    subjects: int
    favoured: int
    parameters: dict[str, int]


def write_card(base: Path, measured: Measured) -> None:
    """Fill the template and write it as `README.md` of the base.

    Args:
        base: The exported folder.
        measured: What to fill in.
    """
    millions = {name: f"{count / 1e6:.2f}" for name, count in measured.parameters.items()}
    size = sum(file.stat().st_size for file in base.rglob("*.safetensors")) / 1e6
    text = TEMPLATE.read_text(encoding="utf-8").format(
        vae_steps=f"{measured.vae_steps:,}",
        vae_minutes=f"{measured.vae_minutes:.0f}",
        vae_error=f"{measured.vae_error:.4f}",
        steps=f"{measured.steps:,}",
        minutes=f"{measured.minutes:.0f}",
        loss=f"{measured.loss:.3f}",
        subjects=measured.subjects,
        favoured=measured.favoured,
        others=measured.subjects - measured.favoured,
        megabytes=f"{size:.0f}",
        **millions,
    )
    (base / "README.md").write_text(text, encoding="utf-8")
