"""Everything that can be wrong with a data set, found before a base is loaded and reported at once.

Nothing here imports torch. What needs a tokenizer takes a callable.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from lora_foundry.config.schema import DataConfig
from lora_foundry.config.unicode import printable
from lora_foundry.config.warned import Warned
from lora_foundry.data.decode import UnreadableImageError, background_rgb, inspect_image
from lora_foundry.data.leaving import is_left_out, unknown_patterns
from lora_foundry.data.listing import list_data, too_many_folds
from lora_foundry.data.records import DataError, Findings, Record, Row, prefixed
from lora_foundry.data.transform import transform_settings

CountTokens = Callable[[str], int]
_MAX_READERS = 8
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedData:
    """A data set whose every image was read whole.

    Attributes:
        train: Images to train on, ordered by content, whatever their names and the rows' order.
        val: Held-out images, ordered by content, so that the first n are a fixed choice; those of ``train`` where
            none is held out.
        warnings: What the user is warned of, which stops nothing.
        skipped: Rows left out by ``data.on_bad=skip``, a line each.
        data_hash: sha256 over images, captions and transform of both sets, hexadecimal.
        gaps: Places that ``data.without`` leaves empty in an epoch of all images, in the order of content.
    """

    train: tuple[Record, ...]
    val: tuple[Record, ...]
    warnings: tuple[Warned, ...]
    skipped: tuple[str, ...]
    data_hash: str
    gaps: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadData:
    """A data set as it was read, before anything is left out of it.

    Attributes:
        train: Images of ``data.path`` that are not held out, ordered by content.
        val: Held-out images, ordered by content; ``train`` itself where none is.
        notes: What the user is warned of.
        skipped: Rows that could not be used.
    """

    train: tuple[Record, ...]
    val: tuple[Record, ...]
    notes: tuple[Warned, ...]
    skipped: tuple[str, ...]


def read_data(data: DataConfig) -> ReadData:
    """Read and split a data set, whatever ``data.without`` says.

    Raises:
        DataError: With every problem of both folders and the settings at once.
    """
    listed = list_data(data)
    findings = listed.findings
    try:
        background_rgb(data.background)
    except ValueError as error:
        findings.faults.insert(0, f"data.background: {error}")
    train = _read_set(listed.train, "data.path", data, findings)
    held_out = None if listed.val is None else _read_set(listed.val, "data.val_path", data, findings)
    if findings.faults or (findings.bad_rows and data.on_bad == "error"):
        raise DataError(findings.faults + findings.bad_rows)
    if held_out is None:
        train, held_out = _divided(train, data, findings)
    if not train or not held_out:
        raise DataError([_nothing_left(train, data), *findings.bad_rows])
    kept = tuple(train)
    return ReadData(
        train=kept,
        val=kept if held_out is train else tuple(held_out),
        notes=tuple(findings.notes),
        skipped=tuple(printable(line) for line in findings.bad_rows),
    )


def check_data(
    data: DataConfig, *, count_tokens: CountTokens | None, max_tokens: int | None, read: ReadData | None = None
) -> CheckedData:
    """Read, check and split a data set.

    Args:
        data: Where it is, and how images are transformed.
        count_tokens: Tokens of a caption as the base's tokenizer counts them uncut, special tokens included;
            None leaves the lengths unchecked.
        max_tokens: Most tokens the text encoder takes; None leaves the lengths unchecked.
        read: What was read of it already, for whatever ``data.without``; None reads it.

    Returns:
        The records, captions with ``data.caption_prefix`` in front.

    Raises:
        DataError: With every problem of both folders and the settings at once.
    """
    whole = read_data(data) if read is None else read
    train, gaps = _leave_out(whole, data)
    leaks = [] if whole.val is whole.train else _overlap(train, whole.val)
    notes = [*whole.notes, *leaks, *_equal(train)]
    notes.extend(_too_long([*train, *whole.val], count_tokens, max_tokens))
    return CheckedData(
        train=train,
        val=whole.val,
        warnings=tuple(notes),
        skipped=whole.skipped,
        data_hash=_data_hash(train, whole.val, data, gaps),
        gaps=gaps,
    )


def _leave_out(whole: ReadData, data: DataConfig) -> tuple[tuple[Record, ...], tuple[int, ...]]:
    """What is trained on, and the places of an epoch that are empty for the rest.

    Raises:
        DataError: When a pattern means no image, or all are left out.
    """
    own = [*whole.train, *(whole.val if data.val_path is None else ())]
    if problems := unknown_patterns(data.without, own):
        raise DataError(problems)
    out = [is_left_out(record, data.without) for record in whole.train]
    if all(out):
        raise DataError(
            [f"data.without: got {list(data.without)}, which leaves none of {len(out)} images; allowed is one at least"]
        )
    places = [gone for gone, record in zip(out, whole.train, strict=True) for _ in range(record.repeats)]
    kept = tuple(record for gone, record in zip(out, whole.train, strict=True) if not gone)
    return kept, tuple(place for place, gone in enumerate(places) if gone)


def validation_view(data: DataConfig) -> DataConfig:
    """``data`` as held-out images are seen: unmirrored, cropped in the middle, captions kept."""
    crop = "center" if data.crop == "random" else data.crop
    return dataclasses.replace(data, crop=crop, flip=False, caption_dropout=0.0)


def _read_set(rows: Sequence[Row], key: str, data: DataConfig, findings: Findings) -> list[Record]:
    """The sound images of one folder, ordered by content."""
    with warnings.catch_warnings(), ThreadPoolExecutor(min(_MAX_READERS, os.cpu_count() or 1)) as pool:
        # Pillow warns at its pixel limit and refuses at twice that; both are too large here.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        seen = list(pool.map(_inspect, rows))
    records: list[Record] = []
    small = 0
    for row, result in zip(rows, seen, strict=True):
        if isinstance(result, str):
            findings.bad_rows.append(result)
            continue
        digest, size = result
        small += min(size) < data.resolution
        caption = prefixed(row.caption, data.caption_prefix)
        records.append(Record(image=row.image, caption=caption, digest=digest, repeats=row.repeats, name=row.name))
    if small:
        findings.note("images", f"{key}: {small} of {len(rows)} images are smaller than {data.resolution} px: enlarged")
    return sorted(records, key=lambda record: (record.digest, record.caption))


def _inspect(row: Row) -> tuple[str, tuple[int, int]] | str:
    """Digest and size of a sound image, or what is wrong with it."""
    try:
        content = row.image.read_bytes()
        return hashlib.sha256(content).hexdigest(), inspect_image(content)
    except OSError as error:
        return f"{row.where}: {row.name} cannot be read ({error.strerror})"
    except UnreadableImageError as error:
        return f"{row.where}: {row.name} {error}"


def _divided(records: list[Record], data: DataConfig, findings: Findings) -> tuple[list[Record], list[Record]]:
    """What is trained on and what is held out; where nothing is to be held out, all of it is both.

    Raises:
        DataError: Where there are more folds than different images.
    """
    if data.folds is None:
        train, held_out = _split(records, data.val_fraction)
        if train and not held_out:
            findings.notes.extend(_none_to_spare(train, data.val_fraction))
            held_out = train
        return train, held_out
    different = len({record.digest for record in records})
    if different < data.folds:
        raise DataError([too_many_folds(data.folds, different), *findings.bad_rows])
    return (records, records) if not isinstance(data.fold, int) else _without_fold(records, data.folds, data.fold)


def _without_fold(records: Sequence[Record], folds: int, fold: int) -> tuple[list[Record], list[Record]]:
    """All but one part of ``folds``, and that part: each image in one, parts of equal size but for one image."""
    digests = sorted({record.digest for record in records}, key=_rank)
    chosen = set(digests[fold::folds])
    return [r for r in records if r.digest not in chosen], [r for r in records if r.digest in chosen]


def _split(records: Sequence[Record], fraction: float) -> tuple[list[Record], list[Record]]:
    """Hold out a share by content: the same images whatever their names, equal images on one side.

    At least one image stays on either side, as long as there are two and a share is wanted.
    """
    digests = sorted({record.digest for record in records}, key=_rank)
    count = min(max(1, round(len(digests) * fraction)), len(digests) - 1) if fraction > 0 else 0
    chosen = set(digests[: max(0, count)])
    return [r for r in records if r.digest not in chosen], [r for r in records if r.digest in chosen]


def _rank(digest: str) -> str:
    # Not the digest itself: held-out images would then be the first in every other order by content too.
    return hashlib.sha256(f"hold-out {digest}".encode()).hexdigest()


def _none_to_spare(train: Sequence[Record], fraction: float) -> list[Warned]:
    """One image cannot be divided; where none was to be held out, the configuration's own warning says so."""
    if fraction == 0:
        return []
    text = (
        f"data.path: all images are one ({train[0].shown}), so none is held out: val/loss is taken on it and "
        "measures fit alone; add images, or set data.val_path"
    )
    return [Warned(topic="held-out", text=text)]


def _nothing_left(train: Sequence[Record], data: DataConfig) -> str:
    key, path = ("data.path", data.path) if not train else ("data.val_path", data.val_path)
    return f"{key}: {path} leaves no usable image, allowed is at least 1; repair the rows that were skipped"


def _overlap(train: Sequence[Record], held_out: Sequence[Record]) -> list[Warned]:
    known = {record.digest for record in train}
    shared = [record.shown for record in held_out if record.digest in known]
    if not shared:
        return []
    text = f"{len(shared)} of {len(held_out)} held-out images are trained on too ({_few(shared)}): val/loss flatters"
    return [Warned(topic="held-out", text=text)]


def _equal(train: Sequence[Record]) -> list[Warned]:
    times = Counter(record.digest for record in train)
    equal = [record.shown for record in train if times[record.digest] > 1]
    if not equal:
        return []
    return [Warned(topic="images", text=f"{len(equal)} training images have equal bytes ({_few(equal)})")]


def _too_long(records: Sequence[Record], count_tokens: CountTokens | None, max_tokens: int | None) -> list[Warned]:
    if count_tokens is None or max_tokens is None:
        return []
    lengths = {caption: count_tokens(caption) for caption in sorted({record.caption for record in records})}
    long = [f"{r.shown}: {lengths[r.caption]}" for r in records if lengths[r.caption] > max_tokens]
    if not long:
        return []
    text = f"{len(long)} captions are longer than the tokenizer's {max_tokens} tokens and are cut ({_few(long)})"
    return [Warned(topic="captions", text=text)]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _data_hash(train: Sequence[Record], held_out: Sequence[Record], data: DataConfig, gaps: Sequence[int]) -> str:
    times = [(record.digest, record.caption, record.repeats) for record in train if record.repeats != 1]
    description = {
        "train": sorted((record.digest, record.caption) for record in train),
        "val": sorted((record.digest, record.caption) for record in held_out),
        "transform": transform_settings(data),
        "flip": data.flip,
        "crops": data.crop_variants if data.crop == "random" else 1,
        **({"repeats": sorted(times)} if times else {}),  # without any, the hash is what it always was
        **({"gaps": list(gaps)} if gaps else {}),
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
