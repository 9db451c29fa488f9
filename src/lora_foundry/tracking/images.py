"""Pictures under keys that are the same in every run, each logged once."""

from __future__ import annotations

import re
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from lora_foundry.wire.events import ImageEvent

_FOLDER = "images"
_REFUSED = re.compile(r"[^A-Za-z0-9_\-./ ]+")
# File names hold the key, a time and a UUID (about 90 characters) and may have 255 bytes on Linux.
_LONGEST_KEY = 140
_THUMBNAIL_PX = 256
_NAME = re.compile(r"^(?P<key>.+)\+step\+(?P<step>\d+)\+timestamp\+\d+\+[0-9a-f-]{36}(?P<small>\+compressed)?$")


def clean_key(key: str) -> str:
    """``key`` with what MLflow refuses replaced, and a checksum of the original so that keys stay apart.

    The same key gives the same result in every run: the UI's image grid lines runs up by it.
    """
    cleaned = _REFUSED.sub("_", key)
    if cleaned == key and len(key) <= _LONGEST_KEY:
        return key
    return f"{cleaned[:_LONGEST_KEY]} {zlib.crc32(key.encode()):08x}"


@dataclass(kw_only=True, slots=True)
class LoggedImages:
    """Which pictures a run holds already.

    Attributes:
        whole: Key (slashes as MLflow stores them) and step of each.
        torn: Those whose thumbnail is missing, because the writer was killed between the two files of
            ``log_image``; the value is the picture's artifact path.
    """

    whole: set[tuple[str, int]] = field(default_factory=set)
    torn: dict[tuple[str, int], str] = field(default_factory=dict)


def list_logged(client: MlflowClient, run_id: str) -> LoggedImages:
    """Read the names of the run's image artifacts (MLflow 3.17 writes ``key+step+N+timestamp+T+UUID``)."""
    logged = LoggedImages()
    for artifact in client.list_artifacts(run_id, _FOLDER):
        match = _NAME.match(PurePosixPath(artifact.path).stem)
        if match is None:
            continue
        place = (match["key"], int(match["step"]))
        if match["small"]:
            logged.whole.add(place)
        else:
            logged.torn[place] = artifact.path
    for place in logged.whole:
        logged.torn.pop(place, None)
    return logged


def log_once(client: MlflowClient, run_id: str, logged: LoggedImages, event: ImageEvent, path: Path) -> None:
    """Log one picture unless the run has it, and note it in ``logged``.

    Raises:
        PIL.UnidentifiedImageError: When ``path`` is no picture.
        OSError: When it cannot be read, or the store cannot be reached.
    """
    from PIL import Image

    key, step = clean_key(event.key), event.samples
    place = (key.replace("/", "~"), step)
    if place in logged.whole:
        return
    with Image.open(path) as picture:
        picture.load()
        if place in logged.torn:
            _complete(client, run_id, logged.torn.pop(place), picture)
        else:
            time_ms = int(event.t * 1000)
            client.log_image(run_id, picture, key=key, step=step, timestamp=time_ms, synchronous=True)
    logged.whole.add(place)


def _complete(client: MlflowClient, run_id: str, artifact: str, picture: object) -> None:
    from PIL import Image

    assert isinstance(picture, Image.Image)  # noqa: S101 - narrows a lazily imported type
    scale = _THUMBNAIL_PX / max(picture.size)
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{PurePosixPath(artifact).stem}+compressed.webp"
        small.save(file)
        client.log_artifact(run_id, str(file), _FOLDER)
    client.set_tag(run_id, "mlflow.loggedImages", value=True)
