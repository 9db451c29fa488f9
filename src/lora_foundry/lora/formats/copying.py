"""Copies of finished adapters in a folder that others write to as well, such as a web UI's."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from lora_foundry.config.files import sync_folder, write_atomic
from lora_foundry.config.tensorfile import LENGTH_BYTES, TensorFileError, read_tensor_header
from lora_foundry.lora.formats.metadata import MADE_BY

_NAME, _TITLE = "ss_output_name", "modelspec.title"  # the web UI's alias is the first, and has to be the file's stem


def copy_adapter(file: Path, card: Path, folder: Path, stem: str | None = None) -> Path:
    """Copy an adapter and its card to ``folder``; an earlier copy of the same job is replaced, nothing else is.

    It is called ``stem`` (None keeps the file's own), and where that is taken by another adapter ``<stem>-2``, also in
    its header.

    Returns:
        The copy.

    Raises:
        OSError: When the folder is not there or cannot be written.
    """
    content, stem = file.read_bytes(), stem or file.stem
    mine = read_tensor_header(file).metadata.get(MADE_BY)
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        target = folder / f"{name}.safetensors"
        if _take(target, mine):
            break
        number += 1
    try:
        write_atomic(target, content if name == file.stem else _renamed(content, name))
        write_atomic(target.with_suffix(".json"), card.read_bytes())
    except OSError:
        if target.exists() and not target.stat().st_size:
            target.unlink()  # what took the name
        raise
    return target


def _take(target: Path, mine: str | None) -> bool:
    """Whether ``target`` may be written: an earlier copy of the same job, or a name that was free and is ours now."""
    try:
        written = read_tensor_header(target).metadata.get(MADE_BY)
    except FileNotFoundError:
        if target.with_suffix(".json").exists() or target.is_symlink():
            return False  # of an adapter that is elsewhere
        with suppress(FileExistsError):
            target.open("xb").close()
            sync_folder(target.parent)
            return True
        return False
    except TensorFileError:
        return False
    return mine is not None and written == mine


def _renamed(content: bytes, name: str) -> bytes:
    """The same file under another name: its header holds the name, its hashes are of the tensors alone."""
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    header = json.loads(content[LENGTH_BYTES:end])
    metadata = header["__metadata__"]
    if metadata.get(_TITLE) == metadata.get(_NAME):
        metadata[_TITLE] = name
    metadata[_NAME] = name
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + content[end:]
