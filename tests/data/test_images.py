"""Pixels: orientation, transparency, depth and kind of the source, crop and flip."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.decode import UnreadableImageError, background_rgb, inspect_image, read_image
from lora_foundry.data.images import load_pixels
from lora_foundry.data.records import DataError
from lora_foundry.data.transform import Variant, crop_box, variants

MakeConfig = Callable[..., DataConfig]
PLAIN = Variant(flip=False, crop=0)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(image: Image.Image, kind: str = "PNG", **save: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **save)
    return buffer.getvalue()


def halves(size: tuple[int, int], left: Any, right: Any, mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def huge_png(width: int, height: int) -> bytes:
    """A sound PNG header that claims a size, with next to no data behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


def test_pixels_are_rgb_planes_from_minus_one_to_one(config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    halves((40, 40), RED, (0, 0, 128)).save(path)
    pixels = load_pixels(path, config(resolution=8), PLAIN)
    assert pixels.shape == (3, 8, 8)
    assert pixels.dtype == torch.float32
    assert pixels.is_contiguous()
    assert pixels[:, 0, 0].tolist() == [1.0, -1.0, -1.0]
    assert pixels[:, 7, 7].tolist() == pytest.approx([-1.0, -1.0, 128 / 127.5 - 1], abs=1e-6)


@pytest.mark.parametrize(
    ("orientation", "corner"),  # of the stored image's upper left corner when shown upright (EXIF 2.32, 0x0112)
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)), (5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))],
)
def test_exif_orientation_is_applied(
    config: MakeConfig, tmp_path: Path, orientation: int, corner: tuple[int, int]
) -> None:
    image = Image.new("RGB", (64, 32), BLUE)
    image.paste(RED, (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    pixels = load_pixels(tmp_path / "a.jpg", config(resolution=8, crop="none"), PLAIN)
    row, column = corner
    assert pixels[0, row, column] > 0.8
    for other in {(0, 0), (0, -1), (-1, 0), (-1, -1)} - {corner}:
        assert pixels[0, other[0], other[1]] < -0.8


def test_a_rotated_image_is_cropped_after_it_was_turned(config: MakeConfig, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    halves((80, 20), RED, BLUE).save(tmp_path / "a.png", exif=exif)  # stored wide, shown tall: red above blue
    pixels = load_pixels(tmp_path / "a.png", config(resolution=8), PLAIN)
    assert pixels[:, 0, :].mean(dim=1).tolist() == pytest.approx([1, -1, -1], abs=0.1)
    assert pixels[:, -1, :].mean(dim=1).tolist() == pytest.approx([-1, -1, 1], abs=0.1)


def palette(**_: Any) -> bytes:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*RED, *BLUE] + [0] * 750)
    return encoded(image, transparency=bytes([0, 255]))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0))), id="alpha"),
        pytest.param(encoded(Image.new("LA", (8, 8), (200, 0))), id="grey-alpha"),
        pytest.param(encoded(Image.new("RGB", (8, 8), RED), transparency=RED), id="colour-key"),
        pytest.param(encoded(Image.new("L", (8, 8), 7), transparency=7), id="grey-key"),
        pytest.param(encoded(Image.new("I;16", (8, 8), 700), transparency=700), id="16-bit-key"),
        pytest.param(palette(), id="palette"),
        pytest.param(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "WEBP", lossless=True, exact=True), id="webp"),
        pytest.param(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "GIF"), id="gif"),
    ],
)
def test_transparent_pixels_show_the_background(content: bytes) -> None:
    assert read_image(content, GREEN).getpixel((4, 4)) == GREEN


def test_half_transparent_pixels_mix_with_the_background_before_the_resize(config: MakeConfig, tmp_path: Path) -> None:
    halves((64, 64), (255, 0, 0, 128), (0, 255, 0, 0), "RGBA").save(tmp_path / "a.png")
    pixels = load_pixels(tmp_path / "a.png", config(resolution=8, background="black"), PLAIN)
    assert pixels[:, 4, 0].tolist() == pytest.approx([128 / 127.5 - 1, -1, -1], abs=0.01)
    assert pixels[1].max() == -1.0  # the hidden green never bleeds over the edge


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_grey_is_scaled_not_clipped(mode: str) -> None:
    values = (0, 32768, 65535)
    layout = {"I;16": "<3H", "I;16B": ">3H", "I": "=3i"}[mode]
    image = Image.frombytes(mode, (3, 1), struct.pack(layout, *values))
    content = encoded(image, "PNG" if mode == "I;16" else "TIFF")
    assert [read_image(content, RED).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize(
    ("content", "colour"),
    [
        pytest.param(encoded(Image.new("L", (16, 16), 90)), (90, 90, 90), id="grey"),
        pytest.param(encoded(Image.new("1", (16, 16), 1)), (255, 255, 255), id="bilevel"),
        pytest.param(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), RED, id="cmyk-jpeg"),
        pytest.param(encoded(Image.new("CMYK", (16, 16), (255, 255, 0, 0)), "TIFF"), BLUE, id="cmyk-tiff"),
        pytest.param(encoded(Image.new("YCbCr", (16, 16), (90, 128, 128)), "TIFF"), (90, 90, 90), id="ycbcr"),
    ],
)
def test_every_kind_becomes_rgb(content: bytes, colour: tuple[int, int, int]) -> None:
    image = read_image(content, GREEN)
    assert image.mode == "RGB"
    assert image.getpixel((3, 3)) == pytest.approx(colour, abs=3)


def noise(size: int = 64) -> Image.Image:
    return Image.frombytes("RGB", (size, size), random.Random(1).randbytes(size * size * 3))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(encoded(noise())[:6000], "cannot be decoded", id="cut-png"),
        pytest.param(encoded(noise(), "JPEG")[:2000], "cannot be decoded", id="cut-jpeg"),
        pytest.param(encoded(noise(), "WEBP")[:1000], "cannot be", id="cut-webp"),
        pytest.param(encoded(noise(), "TIFF")[:6000], "cannot be", id="cut-tiff"),
        pytest.param(b"", "is no image", id="empty"),
        pytest.param(b"<html>not found</html>", "is no image", id="web-page"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is no image", id="eps"),
        pytest.param(huge_png(60000, 60000), "Pillow's limit", id="refused-by-pillow"),
        pytest.param(huge_png(12000, 12000), "Pillow's limit", id="warned-by-pillow"),
        pytest.param(encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "8 and 16 bit", id="float"),
        pytest.param(encoded(Image.new("I", (4, 4), 70000), "TIFF"), "grey values", id="32-bit"),
    ],
)
def test_unusable_files_are_refused_by_the_check_and_by_the_loader(content: bytes, says: str) -> None:
    with pytest.raises(UnreadableImageError, match=says):
        inspect_image(content)
    with pytest.raises(UnreadableImageError, match=says):
        read_image(content, RED)


@pytest.mark.filterwarnings("default")
def test_pillows_limit_holds_where_pillow_only_warns() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(UnreadableImageError, match="12000 x 12000"):
        inspect_image(huge_png(12000, 12000))
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_the_check_gives_the_size_of_sound_files(kind: str) -> None:
    assert inspect_image(encoded(Image.new("RGB", (640, 480), RED), kind)) == (640, 480)


def test_center_crop_keeps_the_middle_of_the_long_side(config: MakeConfig, tmp_path: Path) -> None:
    image = Image.new("RGB", (96, 32), RED)
    image.paste(BLUE, (32, 0, 64, 32))
    image.save(tmp_path / "a.png")
    assert (
        load_pixels(tmp_path / "a.png", config(resolution=8), PLAIN)[0].max() < -0.8
    )  # Lanczos reaches a little over the cut
    squeezed = load_pixels(tmp_path / "a.png", config(resolution=8, crop="none"), PLAIN)
    assert squeezed[0, :, 0].min() > 0.9


def test_flip_is_the_mirror_image(config: MakeConfig, tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    plain = load_pixels(tmp_path / "a.png", config(resolution=16), PLAIN)
    flipped = load_pixels(tmp_path / "a.png", config(resolution=16), Variant(flip=True, crop=0))
    assert torch.equal(flipped, plain.flip(2))
    assert not torch.equal(flipped, plain)


def test_random_crops_differ_repeat_and_do_not_depend_on_how_many_there_are(config: MakeConfig, tmp_path: Path) -> None:
    Image.frombytes("RGB", (128, 32), random.Random(2).randbytes(128 * 32 * 3)).save(tmp_path / "a.png")
    three, six = config(crop="random", crop_variants=3), config(crop="random", crop_variants=6)
    crops = [load_pixels(tmp_path / "a.png", three, Variant(flip=False, crop=index)) for index in range(3)]
    again = [load_pixels(tmp_path / "a.png", six, Variant(flip=False, crop=index)) for index in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(crops, again, strict=True))
    assert not torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[1], crops[2])


def test_variants_are_counted_by_flip_and_crop(config: MakeConfig) -> None:
    assert variants(config()) == (PLAIN,)
    assert variants(config(flip=True)) == (PLAIN, Variant(flip=True, crop=0))
    both = variants(config(flip=True, crop="random", crop_variants=3))
    assert [(v.crop, v.flip) for v in both] == [(0, False), (0, True), (1, False), (1, True), (2, False), (2, True)]


@pytest.mark.slow
@given(
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    crop=st.sampled_from(["center", "random"]),
    place=st.integers(0, 63),
    salt=st.integers(0, 1000),
)
def test_a_crop_is_a_square_of_the_short_side_inside_the_image(
    size: tuple[int, int], crop: Any, place: int, salt: int
) -> None:
    data = DataConfig(
        name="x", path="x", val_path=None, val_fraction=0.1, batch_size=1, resolution=8, crop=crop, crop_variants=64,
        flip=False, background="white", caption_dropout=0, caption_prefix="", captions="auto",
        repeats="auto", follow_links=False, prompts=(), on_bad="error", cache_dir="x",
        folds=None, fold=None, refit=False, without=(),
    )  # fmt: skip
    left, top, right, bottom = crop_box(size, data, place, hashlib.sha256(str(salt).encode()).hexdigest())
    assert left >= 0
    assert top >= 0
    assert right <= size[0]
    assert bottom <= size[1]
    assert right - left == pytest.approx(min(size))
    assert bottom - top == pytest.approx(min(size))


def test_a_sliver_of_an_image_is_loaded_without_growing(config: MakeConfig, tmp_path: Path) -> None:
    Image.new("RGB", (9000, 1), RED).save(tmp_path / "a.png")
    assert load_pixels(tmp_path / "a.png", config(resolution=64), PLAIN).shape == (3, 64, 64)


def test_a_file_that_changed_since_the_check_is_refused(config: MakeConfig, tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    load_pixels(tmp_path / "a.png", config(), PLAIN, digest=digest)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="changed"):
        load_pixels(tmp_path / "a.png", config(), PLAIN, digest=digest)


def test_a_missing_or_broken_file_is_named_by_the_loader(config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    for name in ("gone.png", "bad.png"):
        with pytest.raises(DataError, match=name):
            load_pixels(tmp_path / name, config(), PLAIN)


@pytest.mark.parametrize(
    ("colour", "rgb"), [("white", (255, 255, 255)), ("#0a0B0c", (10, 11, 12)), ("hsl(0,100%,50%)", RED)]
)
def test_background_colours_are_pillows(colour: str, rgb: tuple[int, int, int]) -> None:
    assert background_rgb(colour) == rgb


@pytest.mark.parametrize("colour", ["wite", "#12345", "#00000080"])
def test_a_bad_background_is_refused_by_name(colour: str) -> None:
    with pytest.raises(ValueError, match=f"{colour}.*allowed"):
        background_rgb(colour)
