"""Draw the contact sheet of the exported base, with the captions under the pictures."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw, ImageFont

PROMPTS = (
    "red heart", "pizza", "cat face", "rocket", "house building", "grinning face",
    "red apple", "red car", "tree", "fish", "dog face", "sunflower",
    "hamburger", "guitar", "penguin", "castle", "bicycle", "umbrella",
    "robot face", "crown", "strawberry", "airplane", "ghost", "birthday cake",
)  # fmt: skip
STEPS = 25
GUIDANCE = 4.0
SEED = 0
COLUMNS = 6
TILE, GAP, CAPTION = 128, 10, 20


@torch.no_grad()
def draw_pictures(base: Path, prompts: tuple[str, ...] = PROMPTS) -> list[Image.Image]:
    """Draw one picture a prompt with the saved base, every prompt from the same noise seed.

    Args:
        base: A Stable Diffusion folder.
        prompts: What to draw.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)
    streams = [torch.Generator().manual_seed(SEED) for _ in prompts]
    drawn = pipeline(list(prompts), num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=streams)
    return list(drawn.images)


def draw_sheet(base: Path, target: Path | None = None, prompts: tuple[str, ...] = PROMPTS) -> Path:
    """Write `contact_sheet.png`: a grid of drawings, enlarged twice, each with its prompt.

    Args:
        base: A Stable Diffusion folder.
        target: File to write, by default `contact_sheet.png` in the folder.
        prompts: What to draw.
    """
    pictures = draw_pictures(base, prompts)
    rows = -(-len(pictures) // COLUMNS)
    width, height = GAP + COLUMNS * (TILE + GAP), GAP + rows * (TILE + CAPTION + GAP)
    sheet = Image.new("RGB", (width, height), (236, 236, 240))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for number, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True)):
        left = GAP + number % COLUMNS * (TILE + GAP)
        top = GAP + number // COLUMNS * (TILE + CAPTION + GAP)
        sheet.paste(picture.resize((TILE, TILE), Image.Resampling.LANCZOS), (left, top))
        pen.text((left + TILE / 2, top + TILE + CAPTION / 2 + 1), prompt, fill=(30, 30, 40), font=font, anchor="mm")
    path = base / "contact_sheet.png" if target is None else target
    sheet.save(path, optimize=True)
    return path
