"""The cache: keys, damage, several processes."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.cache import TensorCache
from lora_foundry.data.keys import caption_key, image_key
from lora_foundry.data.transform import Variant
from tests.root import PROJECT_ROOT

MakeConfig = Callable[..., DataConfig]
PLAIN = Variant(flip=False, crop=0)
GOLDEN = "080780818e98906eec2fad167d0a0f7ba66c334b0177716099d55110b5d67eee"
KEY = "ab" + "0" * 62


def test_what_was_put_is_got_bit_by_bit(tmp_path: Path) -> None:
    tensors = {
        "states": torch.randn(77, 8).to(torch.bfloat16),
        "mask": torch.ones(77, dtype=torch.int64),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "turned": torch.randn(3, 5).T,
    }
    cache = TensorCache(tmp_path)
    cache.put(KEY, tensors)
    found = TensorCache(tmp_path).get(KEY)
    assert found is not None
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert cache.path(KEY).parent.name == "ab"


def test_an_unknown_key_is_none(tmp_path: Path) -> None:
    assert TensorCache(tmp_path / "not made yet").get(KEY) is None


@pytest.mark.slow
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed_deleted_and_logged(
    tmp_path_factory: pytest.TempPathFactory, at: float, bit: int
) -> None:
    cache = TensorCache(tmp_path_factory.getbasetemp() / "bits")
    cache.put(KEY, {"latents": torch.arange(12.0).view(3, 4)})
    content = bytearray(cache.path(KEY).read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    cache.path(KEY).write_bytes(content)
    found = cache.get(KEY)
    # A bit of the JSON's white space may change nothing that counts; then the tensor must be right.
    assert found is None or torch.equal(found["latents"], torch.arange(12.0).view(3, 4))
    assert cache.path(KEY).exists() == (found is not None)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"not safetensors", b"\xff" * 64])
def test_a_damaged_entry_is_deleted_logged_and_can_be_rebuilt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    cache = TensorCache(tmp_path)
    cache.path(KEY).parent.mkdir()
    cache.path(KEY).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY) is None
    assert not cache.path(KEY).exists()
    assert KEY in caplog.text
    cache.put(KEY, {"latents": torch.ones(2)})
    assert cache.get(KEY) is not None


def test_a_cut_entry_and_one_under_a_wrong_name_are_damaged(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path)
    cache.put(KEY, {"latents": torch.ones(200)})
    whole = cache.path(KEY).read_bytes()
    other = "ab" + "1" * 62
    cache.path(other).write_bytes(whole)
    assert cache.get(other) is None
    cache.path(KEY).write_bytes(whole[:-10])
    assert cache.get(KEY) is None


def test_a_full_disk_is_an_error_not_a_silence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        TensorCache(tmp_path / "file").put(KEY, {"latents": torch.ones(2)})


def test_image_keys_follow_everything_that_changes_the_latents(config: MakeConfig) -> None:
    data = config()

    def key(
        digest: str = "d", data: DataConfig = data, variant: Variant = PLAIN, vae: str = "v",
        dtype: torch.dtype = torch.float32,
    ) -> str:  # fmt: skip
        return image_key(digest, data, variant, fingerprint=vae, dtype=dtype)

    keys = [
        key(),
        key(digest="e"),
        key(variant=Variant(flip=True, crop=0)),
        key(variant=Variant(flip=False, crop=1)),
        key(vae="w"),
        key(dtype=torch.bfloat16),
        key(data=config(resolution=8)),
        key(data=config(crop="none")),
        key(data=config(background="black")),
        caption_key("d", fingerprint="v", dtype=torch.float32),
        caption_key("d", fingerprint="w", dtype=torch.float32),
        caption_key("e", fingerprint="v", dtype=torch.float32),
        caption_key("d", fingerprint="v", dtype=torch.float64),
    ]
    assert len(set(keys)) == len(keys)
    untouched = dataclasses.replace(data, batch_size=9, name="x", path="y", caption_dropout=0.9, flip=True)
    assert key(data=untouched) == key()
    # Recorded when the cache was written: a change here throws away everyone's cache, so raise a version with it.
    assert key() == GOLDEN


RACE = """
import sys, logging, random, torch
from pathlib import Path
from lora_foundry.data.cache import TensorCache
logging.basicConfig(level=logging.WARNING)
torch.set_num_threads(1)
cache, choice = TensorCache(Path(sys.argv[1])), random.Random(sys.argv[2])
hits = 0
for _ in range(200):
    n = choice.randrange(4)
    key = f"{n:064x}"
    if choice.random() < 0.4:
        cache.put(key, {"latents": torch.full((100_000,), float(n))})
    else:
        found = cache.get(key)
        hits += found is not None
        assert found is None or bool((found["latents"] == n).all())
print(hits)
"""


@pytest.mark.slow
def test_processes_that_share_a_cache_never_see_half_an_entry(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(2)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=200)
        assert worker.returncode == 0, err
        assert "damaged" not in err
        assert int(out) > 60
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]
