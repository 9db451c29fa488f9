"""Encoding: laziness, the shape of the result, entries that do not depend on their neighbours."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.cache import TensorCache
from lora_foundry.data.checks import CheckedData, check_data, validation_view
from lora_foundry.data.encoding import EncodedData, encode_captions, encode_data
from lora_foundry.data.images import load_pixels
from lora_foundry.data.records import DataError
from lora_foundry.data.transform import variants

MakeConfig = Callable[..., DataConfig]


class Pool:
    """An image encoder: means over 4 x 4 pixels; it notes the rows of each call."""

    fingerprint = "pool"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def encode(self, pixels: Tensor) -> Tensor:
        self.calls.append(len(pixels))
        return torch.nn.functional.avg_pool2d(pixels, 4)


class Letters:
    """A caption encoder: codes of the letters, and how many there are."""

    fingerprint = "letters"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def encode(self, captions: list[str]) -> dict[str, Tensor]:
        self.calls.append(len(captions))
        codes = torch.zeros(len(captions), 12)
        for row, caption in enumerate(captions):
            codes[row, : len(caption)] = torch.tensor([float(ord(letter)) for letter in caption[:12]])
        return {"states": codes, "length": torch.tensor([len(caption) for caption in captions])}


class Asleep:
    """An encoder whose weights must not be loaded."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def encode(self, what: object) -> Tensor:
        raise AssertionError(f"encode was called with {what}")


@pytest.fixture
def checked(config: MakeConfig, folder: Callable[..., Path], tmp_path: Path) -> CheckedData:
    folder(tmp_path / "train", [f"{name}.png" for name in "abcdefghijk"])
    folder(tmp_path / "val", ["y.png"])
    return check_data(config(), count_tokens=None, max_tokens=None)


@pytest.fixture
def cache(tmp_path: Path) -> TensorCache:
    return TensorCache(tmp_path / "cache")


def encode(checked: CheckedData, data: DataConfig, cache: TensorCache, **changes: object) -> EncodedData:
    options = {"images": Pool(), "captions": Letters(), "dtype": torch.float32, **changes}
    return encode_data(checked.train, data, cache=cache, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_every_image_and_variant_has_its_own_latents(
    config: MakeConfig, checked: CheckedData, cache: TensorCache
) -> None:
    data = config(flip=True, crop="random")
    encoded = encode(checked, data, cache)
    assert encoded.latents.shape == (11, 6, 3, 4, 4)
    assert encoded.records == checked.train
    for row, record in enumerate(checked.train):
        for column, variant in enumerate(variants(data)):
            expected = torch.nn.functional.avg_pool2d(load_pixels(record.image, data, variant), 4)
            torch.testing.assert_close(encoded.latents[row, column], expected)


def test_captions_are_indexed_and_the_last_row_is_the_empty_one(
    config: MakeConfig, checked: CheckedData, cache: TensorCache, tmp_path: Path
) -> None:
    table = tmp_path / "train" / "metadata.csv"
    table.write_text(table.read_text().replace("a b", "a a"))
    checked = check_data(config(), count_tokens=None, max_tokens=None)
    encoded = encode(checked, config(), cache)
    assert encoded.captions["states"].shape == (
        11,
        12,
    )  # 11 images, two of them with the same caption, and the empty one
    assert encoded.captions["length"].dtype == torch.int64
    assert encoded.captions["length"][-1] == 0
    for row, record in enumerate(encoded.records):
        codes = encoded.captions["states"][encoded.caption_index[row]]
        assert codes[: len(record.caption)].tolist() == [float(ord(letter)) for letter in record.caption]


def test_when_all_is_cached_no_weights_are_loaded(config: MakeConfig, checked: CheckedData, cache: TensorCache) -> None:
    data = config(flip=True)
    first = encode(checked, data, cache)
    again = encode(checked, data, cache, images=Asleep("pool"), captions=Asleep("letters"))
    assert torch.equal(first.latents, again.latents)
    assert all(torch.equal(first.captions[name], again.captions[name]) for name in first.captions)
    half = config(flip=False)
    assert torch.equal(encode(checked, half, cache, images=Asleep("pool")).latents[:, 0], first.latents[:, 0])


@pytest.mark.parametrize(
    "changes", [{"images": Asleep("other vae")}, {"captions": Asleep("other text")}, {"dtype": torch.float64}]
)
def test_another_encoder_or_dtype_finds_nothing(
    config: MakeConfig, checked: CheckedData, cache: TensorCache, changes: dict[str, object]
) -> None:
    encode(checked, config(), cache)
    asleep = {"images": Asleep("pool"), "captions": Asleep("letters"), **changes}
    with pytest.raises(AssertionError, match="encode was called"):
        encode(checked, config(), cache, **asleep)


def test_only_what_is_missing_or_damaged_is_computed(
    config: MakeConfig, checked: CheckedData, cache: TensorCache
) -> None:
    first = encode(checked, config(), cache)
    entries = sorted(cache.root.rglob("*.safetensors"))
    assert len(entries) == 11 + 12
    entries[0].write_bytes(b"damaged")
    entries[1].unlink()
    images, captions = Pool(), Letters()
    again = encode(checked, config(), cache, images=images, captions=captions)
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.captions["states"], again.captions["states"])
    assert len(images.calls) + len(captions.calls) in {1, 2}
    assert len(list(cache.root.rglob("*.safetensors"))) == 23


def test_an_encoder_always_sees_the_same_number_of_rows(
    config: MakeConfig, checked: CheckedData, cache: TensorCache
) -> None:
    # Kernels round by the shape of the batch: a latent must not depend on how many were missing with it.
    images, captions = Pool(), Letters()
    encode(checked, config(), cache, images=images, captions=captions)
    encode_captions(["one more"], captions=captions, cache=cache, dtype=torch.float32)
    assert len(set(images.calls)) == 1
    assert len(set(captions.calls)) == 1
    assert len(images.calls) == len(captions.calls) - 1 == 2


@pytest.mark.slow
def test_processes_that_encode_the_same_data_at_once_share_the_work(
    config: MakeConfig, folder: Callable[..., Path], tmp_path: Path
) -> None:
    class Slow(Pool):
        def encode(self, pixels: Tensor) -> Tensor:
            time.sleep(0.02)
            return super().encode(pixels)

    folder(tmp_path / "train", [f"{number}.png" for number in range(30)])
    folder(tmp_path / "val", ["y.png"])
    data = config(resolution=1024)  # an image a batch
    records = check_data(data, count_tokens=None, max_tokens=None).train
    workers = [(Slow(), TensorCache(tmp_path / "cache")) for _ in range(3)]
    alone = encode_data(
        records, data, images=Pool(), captions=Letters(), cache=TensorCache(tmp_path / "b"), dtype=torch.float32
    )
    with ThreadPoolExecutor(3) as pool:
        running = [
            pool.submit(encode_data, records, data, images=images, captions=Letters(), cache=cache, dtype=torch.float32)
            for images, cache in workers
        ]
        together = [one.result() for one in running]
    assert all(torch.equal(one.latents, alone.latents) for one in together)
    assert 30 <= sum(len(images.calls) for images, _ in workers) < 60  # 90 where each does all


@pytest.mark.slow
def test_large_images_go_in_small_batches(config: MakeConfig, checked: CheckedData, cache: TensorCache) -> None:
    images = Pool()
    encode(checked, config(resolution=1024), cache, images=images)
    assert images.calls == [1] * 11


def test_results_are_stored_in_the_dtype_asked_for(
    config: MakeConfig, checked: CheckedData, cache: TensorCache
) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        encoded = encode(checked, config(), cache, dtype=dtype)
        assert encoded.latents.dtype == encoded.captions["states"].dtype == dtype
        assert encoded.captions["length"].dtype == torch.int64


def test_prompts_keep_their_order_and_repeats(cache: TensorCache) -> None:
    states = encode_captions(["b", "a", "b", ""], captions=Letters(), cache=cache, dtype=torch.float32)
    assert states["states"][:, 0].tolist() == [98.0, 97.0, 98.0, 0.0]
    again = encode_captions(["a"], captions=Asleep("letters"), cache=cache, dtype=torch.float32)
    assert again["states"][0, 0] == 97.0


def test_a_result_that_is_not_finite_is_refused_and_not_stored(
    config: MakeConfig, checked: CheckedData, cache: TensorCache
) -> None:
    class Broken(Pool):
        def encode(self, pixels: Tensor) -> Tensor:
            return super().encode(pixels) / 0

    with pytest.raises(DataError, match="not finite"):
        encode(checked, config(), cache, images=Broken())
    assert not list(cache.root.rglob("*.safetensors"))


def test_an_image_that_changed_since_the_check_is_not_cached_under_the_old_digest(
    config: MakeConfig, checked: CheckedData, cache: TensorCache
) -> None:
    checked.train[0].image.write_bytes(checked.train[1].image.read_bytes())
    with pytest.raises(DataError, match="changed"):
        encode(checked, config(), cache)


def test_nothing_to_encode_is_an_error(config: MakeConfig, cache: TensorCache) -> None:
    with pytest.raises(ValueError, match="at least one"):
        encode_data([], config(), images=Pool(), captions=Letters(), cache=cache, dtype=torch.float32)
    with pytest.raises(ValueError, match="at least one"):
        encode_captions([], captions=Letters(), cache=cache, dtype=torch.float32)


def test_progress_is_told(config: MakeConfig, checked: CheckedData, cache: TensorCache) -> None:
    lines: list[str] = []
    encode(checked, config(), cache, log=lines.append)
    assert lines[0] == "latents: 0 of 11 in the cache, 11 to compute"
    assert "latents: 11 of 11 computed" in lines
    assert "text states: 12 of 12 computed" in lines
    lines.clear()
    encode(checked, config(), cache, log=lines.append)
    assert lines == ["latents: 11 of 11 in the cache, 0 to compute", "text states: 12 of 12 in the cache, 0 to compute"]


@pytest.mark.parametrize("style", ["emoji-flat", "emoji-duotone"])
def test_the_shipped_drawings_become_latents(config: MakeConfig, cache: TensorCache, style: str) -> None:
    data = config(path=f"assets/{style}/train", val_path=f"assets/{style}/val", resolution=64, flip=True)
    checked = check_data(data, count_tokens=None, max_tokens=None)
    view = validation_view(data)
    encoded = encode_data(checked.val, view, images=Pool(), captions=Lengths(), cache=cache, dtype=torch.float32)
    assert encoded.latents.shape == (len(checked.val), 1, 3, 16, 16)
    # No drawing is empty, and no two are alike.
    flat = encoded.latents.flatten(1)
    assert flat.std(dim=1).min() > 0.05
    assert torch.cdist(flat, flat).fill_diagonal_(9).min() > 0.1


class Lengths(Letters):
    """Captions of any length, as one number each."""

    def encode(self, captions: list[str]) -> dict[str, Tensor]:
        return {"states": torch.tensor([[float(len(caption))] for caption in captions])}
