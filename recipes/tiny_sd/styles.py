"""Write the two style datasets: Twemoji's flat drawings, and a duotone made from Noto's."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from recipes.tiny_sd.fetch import picture_folder
from recipes.tiny_sd.pictures import Floats, compose, read_rgba, save_png, to_image
from recipes.tiny_sd.subjects import Subject


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TRAIN = _listed(
    """
    grinning heart_eyes cry skull ghost robot_face alien yellow_heart blue_heart dog fox_face panda_face lion_face
    pig frog monkey_face penguin owl baby_chick fish octopus whale turtle butterfly ladybug crab sunflower tulip
    rose cactus deciduous_tree palm_tree mushroom four_leaf_clover apple banana strawberry watermelon carrot avocado
    hamburger doughnut cupcake ice_cream coffee car bus airplane boat bike european_castle sunny crescent_moon star
    cloud umbrella balloon gift trophy soccer guitar crown key bulb
    """
)
"""Keys of the training drawings."""

HELD_OUT = _listed(
    """
    heart pizza cat rocket house joy green_heart bear rabbit chicken tropical_fish bee cherry_blossom evergreen_tree
    lemon cherries cookie taxi snowman basketball
    """
)
"""Keys of the held-out drawings, the five of the README first."""

INK = np.array([22, 10, 74], dtype=np.float32) / 255.0
CORAL = np.array([255, 92, 74], dtype=np.float32) / 255.0
CREAM = np.array([255, 240, 205], dtype=np.float32) / 255.0
TEAL = (24, 172, 168)
OUTLINE_PIXELS = 3
MARGIN_PIXELS = 4
DARKEST_LOW = 0.25
LIGHTEST_HIGH = 0.85


def write_styles(work: Path, assets: Path, subjects: list[Subject]) -> None:
    """Write `emoji-flat` and `emoji-duotone`, each with `train/` and `val/`.

    Args:
        work: Work folder that holds the unpacked drawings.
        assets: Folder of the assets.
        subjects: Everything the base is trained on; the datasets take their captions from it.
    """
    by_key = {subject.key: subject for subject in subjects}
    styles: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
        "emoji-flat": ("twitter", compose),
        "emoji-duotone": ("google", duotone),
    }
    for name, (vendor, draw) in styles.items():
        folder = picture_folder(work, vendor)
        for split, keys in (("train", TRAIN), ("val", HELD_OUT)):
            chosen = [by_key[key] for key in keys]
            pictures = [draw(read_rgba(folder / subject.image)) for subject in chosen]
            _write_split(assets / name / split, chosen, pictures)


def duotone(rgba: Floats) -> Floats:
    """Redraw a drawing in two inks: brightness chooses between indigo, coral and cream, a black line goes round it.

    Args:
        rgba: `[64, 64, 4]`, values 0 to 1.

    Returns:
        `[64, 64, 3]` on teal, values 0 to 1.
    """
    drawing = _shrink(rgba)
    alpha = drawing[..., 3]
    light = (drawing[..., :3] @ np.array([0.35, 0.5, 0.15], dtype=np.float32)).clip(0.0, 1.0)
    light = _stretch(light, alpha > 0.5)  # noqa: PLR2004 - the middle of the alpha range
    inked = _two_inks(light)
    line = _dilate(alpha, OUTLINE_PIXELS)[..., None]
    ground = np.asarray(TEAL, dtype=np.float32) / 255.0
    outlined = ground * (1.0 - line)
    return inked * alpha[..., None] + outlined * (1.0 - alpha[..., None])


def _two_inks(light: Floats) -> Floats:
    """Map brightness `[H, W]` to colour: indigo up to 0.3, coral about 0.6, cream from 0.9."""
    stops = [0.15, 0.5, 0.6, 0.9]
    inks = np.stack([INK, CORAL, CORAL, CREAM])
    return np.stack([np.interp(light, stops, inks[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)


def _stretch(light: Floats, inside: np.ndarray) -> Floats:
    """Spread the brightness over the whole range, yet leave what is bright all over (a sun) bright."""
    low, high = np.percentile(light[inside], [3, 97])
    low, high = min(low, DARKEST_LOW), max(high, LIGHTEST_HIGH)
    return ((light - low) / (high - low)).clip(0.0, 1.0).astype(np.float32)


def _shrink(rgba: Floats) -> Floats:
    """Make room for the outline: the drawing shrinks by a margin on every side."""
    size = rgba.shape[0]
    inner = size - 2 * MARGIN_PIXELS
    premultiplied = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], axis=-1)
    planes = [
        Image.fromarray(premultiplied[..., channel], mode="F").resize((inner, inner), Image.Resampling.BOX)
        for channel in range(4)
    ]
    small = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    alpha = small[..., 3:].clip(1e-4, 1.0)
    small = np.concatenate([(small[..., :3] / alpha).clip(0.0, 1.0), small[..., 3:]], axis=-1)
    return np.pad(small, ((MARGIN_PIXELS,) * 2, (MARGIN_PIXELS,) * 2, (0, 0))).astype(np.float32)


def _dilate(alpha: Floats, pixels: int) -> Floats:
    """Grow an alpha plane by `pixels`, with a soft edge."""
    plane = Image.fromarray((alpha * 255.0).astype(np.uint8), mode="L")
    grown = plane.filter(ImageFilter.MaxFilter(2 * pixels + 1)).filter(ImageFilter.GaussianBlur(0.6))
    return np.asarray(grown, dtype=np.float32) / 255.0


def _write_split(folder: Path, subjects: list[Subject], pictures: list[Floats]) -> None:
    """Write the pictures of a split and its `metadata.csv`, replacing what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for subject, picture in zip(subjects, pictures, strict=True):
        name = f"{subject.caption.replace(' ', '-')}.png"
        save_png(to_image(picture), folder / name)
        rows.append((name, subject.caption))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("filename", "prompt"))
        writer.writerows(rows)
