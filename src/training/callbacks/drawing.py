"""Pictures while members train."""

from __future__ import annotations

import io
import re
import zlib
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback
from PIL import Image

from src.config.files import write_all
from src.training.pictures import Painter, Picture
from src.training.sink import stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lightning.pytorch import Trainer

    from src.models.protocol import Decoder
    from src.training.member import Member
    from src.training.module import PackModule
    from src.training.pack import Pack
    from src.training.sink import Sink


class Pictures(Callback):
    """Draws at the start, every ``sample.every`` of a member's steps, and at its end."""

    def __init__(self, pack: Pack, decoder: Decoder, sink: Sink) -> None:
        self._painter = Painter(pack, decoder)
        self._sink = sink

    def on_train_start(self, trainer: Trainer, pl_module: PackModule) -> None:  # type: ignore[override]  # noqa: ARG002
        """Draw members that begin."""
        members = pl_module.pack.active
        if any(member.prompts is not None for member in _beginning(members)):
            self._sink.emit("log", None, level="info", message="drawing the first pictures")
        self.begin(members)

    def begin(self, members: Sequence[Member]) -> None:
        """Draw those of ``members`` that are at step 0, or were stopped before it."""
        self.draw(_beginning(members))

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Draw members that are due."""
        due = [member for member in pl_module.result.stepped if _due(member)]
        drawing = [member for member in due if member.prompts is not None]
        if drawing:
            stage(self._sink, "drawing pictures of", drawing)
        self.draw(due)

    def draw(self, members: Sequence[Member]) -> None:
        """Draw ``members`` now, store the pictures in their folders, and emit."""
        drawing = [member for member in members if member.prompts is not None]
        if not drawing:
            return
        for name, pictures in self._painter.draw(drawing).items():
            member = next(m for m in drawing if m.name == name)
            try:
                self._store(member, pictures)
            except OSError as error:
                message = f"{member.name}: pictures of step {member.count.step} were not stored ({error})"
                self._sink.emit("log", member.job, level="warning", message=message)

    def _store(self, member: Member, pictures: Sequence[Picture]) -> None:
        paths = [picture_path(member.folder, member.count.step, picture) for picture in pictures]
        files = {path.name: _png(picture) for path, picture in zip(paths, pictures, strict=True)}
        write_all(paths[0].parent, files)
        for path, picture in zip(paths, pictures, strict=True):
            self._sink.emit(
                "image",
                member.job,
                step=member.count.step,
                samples=member.samples,
                key=f"samples/{slug(picture.prompt)}-s{picture.seed}/scale {picture.scale:g}",
                prompt=picture.prompt,
                seed=picture.seed,
                scale=picture.scale,
                path=str(path.relative_to(self._sink.root)),
            )


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels.numpy()).save(buffer, format="PNG")
    return buffer.getvalue()


def picture_path(folder: Path, step: int, picture: Picture) -> Path:
    """Where a picture of a job is stored."""
    name = f"{slug(picture.prompt)}-s{picture.seed}-x{picture.scale:g}.png"
    return folder / "samples" / f"step-{step:08d}" / name


def slug(text: str) -> str:
    """``text`` as a file name; where letters were lost or cut, a checksum tells one prompt from another."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
    if re.fullmatch(r"[a-z0-9 ]{1,60}", text):
        return plain
    return f"{plain}-{zlib.crc32(text.encode()):08x}".strip("-")


def _beginning(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.untold and (member.count.step == 0 or _due(member))]


def _due(member: Member) -> bool:
    every = member.config.sample.every
    return member.done or (every is not None and member.count.step % every == 0)
