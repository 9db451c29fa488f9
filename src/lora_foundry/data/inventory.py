"""What a data set is made of, file by file, so that a later look tells what changed since.

Imports neither torch nor PIL, and reads no image whose size and times are as they were.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_foundry.config.paths import locate
from lora_foundry.config.schema import DataConfig
from lora_foundry.config.unicode import printable
from lora_foundry.data.folder import AS_BEFORE, read_folder
from lora_foundry.data.reading import Reading
from lora_foundry.data.records import Findings, Record, Row

_FORMAT = 1
_SHOWN = 3
_READERS = 8
_CAPTION_DIGITS = 16
_SETTLED_NS = 3600 * 10**9  # a file untouched for this long did not change while a data set was checked

Stat = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One image and its caption.

    Attributes:
        digest: sha256 of the image's bytes, hexadecimal; a few words where it cannot be read.
        caption: The first digits of the sha256 of the caption as written.
        stat: Bytes, and nanoseconds of the last changes of content and of inode; None trusts none of them.
    """

    digest: str
    caption: str
    stat: Stat | None

    @property
    def content(self) -> tuple[str, str]:
        """What decides a training; names do not."""
        return self.digest, self.caption


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSet:
    """One folder.

    Attributes:
        path: As the configuration has it.
        files: By name, from the folder on.
        faults: What is wrong with the folder as a whole.
        reading: How its captions were read.
    """

    path: str
    files: Mapping[str, Entry]
    faults: tuple[str, ...] = ()
    reading: Reading = AS_BEFORE


Inventory = Mapping[str, FileSet]
"""Configuration key (``data.path``, ``data.val_path``) to what lies there."""
_Look = Callable[[str, Path, Stat], Entry]


def take_inventory(data: DataConfig, checked: Iterable[Record]) -> Inventory:
    """The files of a data set that was just checked.

    Args:
        data: Where it is.
        checked: Its images as they were read; one that was touched lately is read again, for its times to count.
    """
    read = {record.image: record.digest for record in checked}
    now = time.time_ns()

    def look(_: str, image: Path, stat: Stat) -> Entry:
        digest = read.get(image)
        if digest is not None and max(stat[1:]) < now - _SETTLED_NS:
            return Entry(digest=digest, caption="", stat=stat)
        found = _digest(image)
        same = digest in (None, found)
        return Entry(digest=found if digest is None else digest, caption="", stat=stat if same else None)

    paths = {"data.path": data.path} | ({} if data.val_path is None else {"data.val_path": data.val_path})
    return {key: _read_set(key, path, None, Reading.of(data), look) for key, path in paths.items()}


def look_again(before: Inventory, start: Path) -> Inventory:
    """The same folders as they are now; only what may have changed is read.

    Args:
        before: An earlier look.
        start: Folder that relative paths start from.
    """

    def look_in(files: Mapping[str, Entry]) -> _Look:
        def look(name: str, image: Path, stat: Stat) -> Entry:
            known = files.get(name)
            digest = known.digest if known is not None and known.stat == stat else _digest(image)
            return Entry(digest=digest, caption="", stat=stat)

        return look

    return {key: _read_set(key, one.path, start, one.reading, look_in(one.files)) for key, one in before.items()}


def changes(before: Inventory, now: Inventory) -> list[str]:
    """What differs in content, a line for each folder: ``data.path (photos): 1 file altered (a.png)``."""
    lines: list[str] = []
    for key, old in before.items():
        new = now.get(key, FileSet(path=old.path, files={}, faults=(f"{key}: no longer given",)))
        if new.faults and not new.files:
            lines.extend(new.faults[:1])
        elif Counter(one.content for one in old.files.values()) != Counter(one.content for one in new.files.values()):
            lines.append(f"{key} ({old.path}): {', '.join(_differences(old.files, new.files))}")
    return lines


def changed_since(inventory: Path, start: Path) -> list[str] | None:
    """What changed since ``inventory`` was written; None when it cannot be read.

    Args:
        inventory: The file.
        start: Folder that relative paths start from.
    """
    before = read_inventory(inventory)
    return None if before is None else changes(before, look_again(before, start))


def write_form(inventory: Inventory) -> tuple[str, str]:
    """A file name that tells the content, and the text of the file."""
    sets = {
        key: {
            "path": one.path,
            "reading": dataclasses.asdict(one.reading),
            "files": {name: [entry.digest, entry.caption, entry.stat] for name, entry in sorted(one.files.items())},
        }
        for key, one in inventory.items()
    }
    content = {
        key: [one.path, dataclasses.astuple(one.reading), [(n, e.content) for n, e in sorted(one.files.items())]]
        for key, one in inventory.items()
    }
    name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_CAPTION_DIGITS]
    return f"{name}.json", json.dumps({"format": _FORMAT, "sets": sets}, separators=(",", ":")) + "\n"


def read_inventory(path: Path) -> Inventory | None:
    """What was written; None when it is gone, damaged or of another version."""
    try:
        stored: dict[str, Any] = json.loads(path.read_text())
        if stored["format"] != _FORMAT:
            return None
        sets = stored["sets"].items()
        return {key: _file_set(one) for key, one in sets}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _entries(files: dict[str, Any]) -> dict[str, Entry]:
    return {
        name: Entry(
            digest=_text(digest),
            caption=_text(caption),
            stat=None if stat is None else (int(stat[0]), int(stat[1]), int(stat[2])),
        )
        for name, (digest, caption, stat) in files.items()
    }


def _file_set(one: dict[str, Any]) -> FileSet:
    return FileSet(
        path=_text(one["path"]), files=_entries(one["files"]), reading=Reading.stored(one.get("reading", {}))
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = f"got {value!r}, expected a text"
        raise TypeError(msg)
    return value


def _read_set(key: str, path: str, start: Path | None, reading: Reading, look: _Look) -> FileSet:
    findings = Findings()
    rows = read_folder(locate(path, start), key, findings, reading)

    def entry(row: Row) -> tuple[str, Entry]:
        name = row.name
        told = row.caption if row.repeats == 1 else f"{row.repeats} times\0{row.caption}"
        caption = hashlib.sha256(told.encode()).hexdigest()[:_CAPTION_DIGITS]
        try:
            status = row.image.stat()
            found = look(name, row.image, (status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        except OSError as error:
            return name, Entry(digest=f"cannot be read ({error.strerror})", caption=caption, stat=None)
        return name, Entry(digest=found.digest, caption=caption, stat=found.stat)

    with ThreadPoolExecutor(_READERS) as pool:
        files = dict(pool.map(entry, rows))
    return FileSet(path=path, files=files, faults=tuple(findings.faults), reading=reading)


def _digest(image: Path) -> str:
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> list[str]:
    gone, come = _without_moved(
        {name: one for name, one in old.items() if name not in new},
        {name: one for name, one in new.items() if name not in old},
    )
    both = sorted(old.keys() & new.keys())
    altered = [name for name in both if old[name].digest != new[name].digest]
    told = [name for name in both if name not in set(altered) and old[name].caption != new[name].caption]
    counted = (("file", come, "added"), ("file", gone, "removed"), ("file", altered, "altered"))
    return [_count(what, names, verb) for what, names, verb in (*counted, ("caption", told, "altered")) if names]


def _without_moved(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> tuple[list[str], list[str]]:
    """Names that went and came, less those whose content only has another name now."""
    left = Counter(entry.content for entry in new.values())
    gone = []
    for name, entry in sorted(old.items()):
        if left[entry.content]:
            left[entry.content] -= 1
        else:
            gone.append(name)
    come = []
    for name, entry in sorted(new.items()):
        if left[entry.content]:
            left[entry.content] -= 1
            come.append(name)
    return gone, come


def _count(what: str, names: Sequence[str], verb: str) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = printable(", ".join(names[:_SHOWN]))
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} {verb} ({shown}{more})"
