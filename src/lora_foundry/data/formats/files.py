"""A file beside each image: ``a.txt``, ``a.caption`` or ``a.png.txt`` has the caption of ``a.png``.

In kohya's folders, with ``data.captions=auto``, an image without a file takes the words of its folder's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lora_foundry.data.formats import ImageFormat, cell_of
from lora_foundry.data.kohya import folder_of
from lora_foundry.data.reading import Reading
from lora_foundry.data.records import Cell, Findings
from lora_foundry.data.scan import CAPTION_SUFFIXES, Scan, few, real
from lora_foundry.data.texts import TextError, caption_in, read_text

_SHOWN = 40  # letters of a caption in a note
_WITHOUT = "data.captions=folder, name or prefix does without"


class _Files(ImageFormat):
    suffixes = CAPTION_SUFFIXES

    def cells(self, found: Scan, images: Sequence[Path], reading: Reading, findings: Findings) -> Iterator[Cell]:
        return _from_files(found, images, reading, findings)


def _from_files(scan: Scan, images: Sequence[Path], reading: Reading, findings: Findings) -> Iterator[Cell]:
    bare: list[Path] = []
    worded: dict[str, int] = {}
    rivals: list[str] = []
    used: set[Path] = set()
    for image in images:
        files = scan.captions_of(image)
        used.update(files)
        words = _folder_words(scan, image, reading)
        if files:
            cell = _from_file(scan, image, files[0], reading, findings)
            if cell is not None:
                rivals.extend(_rivals(cell, files[1:]))
                yield cell
        elif words:
            worded[words] = worded.get(words, 0) + 1
            yield cell_of(scan, image, words)
        else:
            bare.append(image)
    _note_bare(scan, bare, whole=bool(images) and len(bare) == len(scan.images), findings=findings)
    if worded:
        shown = ", ".join(f"{words!r}" for words in list(worded)[:3])
        findings.note(
            "captions",
            f"{scan.label}: {sum(worded.values())} images have no caption file and take {shown}, "
            "the words of their folder's name",
        )
    if rivals:
        findings.note(
            "captions",
            f"{scan.label}: {len(rivals)} caption files are passed over for another of the same "
            f"image that says something else ({rivals[0]})",
        )
    _note_shared(scan, images, findings)
    below = {image.parent for image in images} | {scan.root}
    lonely = [p for paths in scan.texts.values() for p in paths if p not in used and p.parent in below]
    if lonely:
        findings.note("captions", f"{scan.label}: no image lies beside {few(sorted(lonely))}; not used")


def _folder_words(scan: Scan, image: Path, reading: Reading) -> str:
    if not reading.repeats or reading.captions != "auto":
        return ""
    folder = folder_of(scan.name, image.relative_to(scan.root))
    return "" if folder is None else folder.words


def _from_file(scan: Scan, image: Path, text: Path, reading: Reading, findings: Findings) -> Cell | None:
    label = scan.shown(text)
    if not reading.follow_links and not real(text).is_relative_to(scan.root):
        findings.bad_rows.append(
            f"{label}: leads to {real(text)}, outside the data folder; put a copy inside it, or set "
            "data.follow_links=true"
        )
        return None
    try:
        return Cell(label, str(image.relative_to(scan.root)), read_text(text, label, findings).strip())
    except TextError as error:
        findings.bad_rows.append(str(error))
        return None


def _rivals(taken: Cell, others: Sequence[Path]) -> list[str]:
    """Caption files of the same image with another text, a few words for each."""
    told = []
    for path in others:
        caption = caption_in(path)
        if caption != taken.caption:
            told.append(f"{path.name}: {_short(caption)}, {taken.where}: {_short(taken.caption)}")
    return told


def _short(caption: str | None) -> str:
    if caption is None:
        return "not readable"
    return repr(caption if len(caption) <= _SHOWN else f"{caption[:_SHOWN]}...")


def _note_bare(scan: Scan, bare: Sequence[Path], *, whole: bool, findings: Findings) -> None:
    if whole:
        findings.faults.append(
            f"{scan.label}: none of its {len(bare)} images has a caption, allowed is a .txt or .caption beside each, "
            f"metadata.csv (filename,prompt) or metadata.jsonl (file_name,text); {_WITHOUT}"
        )
        return
    for image in bare:
        findings.bad_rows.append(
            f"{scan.shown(image)}: has no caption; write one to {image.stem}.txt beside it; {_WITHOUT}"
        )


def _note_shared(scan: Scan, images: Sequence[Path], findings: Findings) -> None:
    """Images that differ in their suffix alone and share one caption file."""
    by_file: dict[Path, list[Path]] = {}
    for image in images:
        for text in scan.captions_of(image)[:1]:
            by_file.setdefault(text, []).append(image)
    shared = {text: found for text, found in by_file.items() if len(found) > 1}
    if not shared:
        return
    text, found = next(iter(shared.items()))
    names = " and ".join(image.name for image in found[:3])
    findings.note(
        "captions",
        f"{scan.label}: {sum(map(len, shared.values()))} images share a caption file with another image ({names}: "
        f"{text.name}); {found[0].name}.txt beside {found[0].name} gives it one of its own",
    )


CHOICE = _Files()
