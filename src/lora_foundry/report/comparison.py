"""``comparison.png``: what each adapter makes of the same prompts, beside the base."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_foundry.config.files import write_atomic
from lora_foundry.judge.verdict import verdict_of
from lora_foundry.report.drawings import Drawing
from lora_foundry.report.lettering import ACCENT, BAD, FAINT, INK, Canvas, font, wrap
from lora_foundry.report.tiles import cell_side, tile
from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wire.verdict import Verdict

_MARGIN = 24
_GAP = 12
_LABEL_WIDTH = 150
_HEADER = 74
_TITLE = 44
_NAME_SIZE, _NOTE_SIZE, _TITLE_SIZE = 17, 14, 20
_SAID, _SAID_LINES, _RISE = 24, 4, 10
_WIDEST_PX = 8000


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of the grid.

    Attributes:
        title: What is shown.
        note: The line below it.
        colour: Of the note.
        cells: The picture of each row; a missing key is drawn as an empty cell.
        best: Whether it is the one to keep, by :mod:`lora_foundry.judge.verdict`.
    """

    title: str
    note: str
    colour: str
    cells: dict[tuple[str, int], Path]
    best: bool = False


def draw(sweep_dir: Path, drawings: Sequence[Drawing], results: Sequence[JobOutcome], target: Path) -> Path:
    """Rows are prompts (times seeds, where there are several), columns the base and the members.

    A member is shown at the highest scale that was drawn. Jobs stand by rank, then by name; a failed job
    keeps its column, with the pictures that it got to.

    Raises:
        OSError: When ``target`` cannot be written.
    """
    rows = list(dict.fromkeys((drawing.prompt, drawing.seed) for drawing in drawings))
    verdict = verdict_of(results)
    columns = [*_base_column(drawings), *_member_columns(drawings, results, verdict)]
    shown = [path for column in columns for path in column.cells.values()]
    side = cell_side(shown, most=(_WIDEST_PX - _LABEL_WIDTH - 2 * _MARGIN) // len(columns) - _GAP)
    said = "" if verdict is None else verdict.sentence
    picture = _grid(_title(sweep_dir, drawings), said, rows, columns, side)
    content = io.BytesIO()
    picture.save(content)
    write_atomic(target, content.getvalue())
    return target


def _base_column(drawings: Sequence[Drawing]) -> list[Column]:
    cells: dict[tuple[str, int], Path] = {}
    for drawing in drawings:
        if drawing.scale == 0.0:
            # Every job draws the same base; the first that has the file is as good as any.
            cells.setdefault((drawing.prompt, drawing.seed), drawing.path)
    return [Column(title="base", note="no adapter", colour=FAINT, cells=cells)] if cells else []


def _member_columns(
    drawings: Sequence[Drawing], results: Sequence[JobOutcome], verdict: Verdict | None
) -> list[Column]:
    columns = []
    for result in sorted(results, key=lambda result: (result.rank, result.name, result.job)):
        own = [drawing for drawing in drawings if drawing.job == result.job and drawing.scale > 0.0]
        top = max((drawing.scale for drawing in own), default=0.0)
        note, colour = _note(result)
        columns.append(
            Column(
                title=result.name,
                note=note,
                colour=colour,
                cells={(drawing.prompt, drawing.seed): drawing.path for drawing in own if drawing.scale == top},
                best=verdict is not None and result.job == verdict.job,
            )
        )
    return columns


def _note(result: JobOutcome) -> tuple[str, str]:
    if result.state != "FINISHED":
        return result.state.lower(), BAD
    told = result.summary
    if told is None or result.score is None:
        return "", INK
    where = f" at step {told.best_step}" if told.better_before else ""
    return f"val loss {result.score:.3f} of base{where}", INK


def _title(sweep_dir: Path, drawings: Sequence[Drawing]) -> str:
    scale = max(drawing.scale for drawing in drawings)
    step = max(drawing.step for drawing in drawings)
    return f"{sweep_dir.name}  ·  step {step}  ·  scale {scale:g}"


def _grid(title: str, said: str, rows: Sequence[tuple[str, int]], columns: Sequence[Column], side: int) -> Canvas:
    pitch = side + _GAP
    left = _MARGIN + _LABEL_WIDTH
    words = wrap(said, font(_NAME_SIZE), left + len(columns) * pitch - _GAP - _MARGIN, _SAID_LINES) if said else []
    head = _MARGIN + _TITLE + len(words) * _SAID
    top = head + _HEADER
    width = left + len(columns) * pitch - _GAP + _MARGIN
    canvas = Canvas(width, top + len(rows) * pitch - _GAP + _MARGIN)
    canvas.text((_MARGIN, _MARGIN), title, font(_TITLE_SIZE), INK, width - 2 * _MARGIN, lines=1)
    for line, text in enumerate(words):
        corner = (_MARGIN, _MARGIN + _TITLE + line * _SAID - _RISE)
        canvas.text(corner, text, font(_NAME_SIZE), ACCENT, width - 2 * _MARGIN, lines=1)
    several_seeds = len({seed for _, seed in rows}) > 1
    for number, column in enumerate(columns):
        x = left + number * pitch
        _header(canvas, column, (x, head), side)
        for line, row in enumerate(rows):
            _cell(canvas, column.cells.get(row), (x, top + line * pitch), side)
    for line, (prompt, seed) in enumerate(rows):
        y = top + line * pitch + side // 2 - 2 * _NAME_SIZE
        y = canvas.text((_MARGIN, y), prompt or "(no prompt)", font(_NAME_SIZE), INK, _LABEL_WIDTH - _GAP, lines=4)
        if several_seeds:
            canvas.text((_MARGIN, y + 2), f"seed {seed}", font(_NOTE_SIZE), FAINT, _LABEL_WIDTH - _GAP, lines=1)
    return canvas


def _header(canvas: Canvas, column: Column, corner: tuple[int, int], width: int) -> None:
    x, y = corner
    y = canvas.text((x, y), column.title, font(_NAME_SIZE), INK, width, lines=2)
    note = f"{column.note}, best" if column.best else column.note
    canvas.text((x, y + 2), note, font(_NOTE_SIZE), ACCENT if column.best else column.colour, width, lines=1)
    if column.best:
        canvas.bar((x, corner[1] + _HEADER - 7), width, ACCENT)


def _cell(canvas: Canvas, path: Path | None, corner: tuple[int, int], side: int) -> None:
    picture = tile(path, side) if path is not None else None
    if picture is None:
        canvas.empty_cell(corner, side, "no picture")
    else:
        canvas.paste(picture, corner, side)
