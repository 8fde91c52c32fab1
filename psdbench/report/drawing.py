"""Drawing labelled grids of pictures with PIL alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT, HOLE, LINE = "#ffffff", "#1c1c1c", "#7a7a7a", "#f1f1f1", "#dddddd"
MARGIN, GAP, APART = 24, 6, 10
TITLE, LABEL, NOTE = 24, 17, 14


@dataclass(frozen=True)
class Cell:
    """A picture, or a few words where there is none."""

    picture: Image.Image | None = None
    words: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a grid: label, fainter note under it, cells; `apart` sets it off from the row above."""

    label: str
    note: str
    cells: Sequence[Cell]
    apart: bool = False


def draw_grid(
    title: str, columns: Sequence[str], rows: Sequence[Row], tile: int, label_width: int
) -> Image.Image:
    """A grid of square tiles, `tile` pixels each, with a title, column headings and row labels."""
    headings = [wrapped(name, LABEL, tile, 4) for name in columns]
    top = MARGIN + TITLE + 14 + max(map(len, headings)) * (LABEL + 4) + 8
    width = MARGIN + label_width + len(columns) * (tile + GAP) - GAP + MARGIN
    height = top + sum(tile + GAP + row.apart * APART for row in rows) - GAP + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), fitted(title, TITLE, width - 2 * MARGIN), INK, _font(TITLE))
    for index, lines in enumerate(headings):
        centre = MARGIN + label_width + index * (tile + GAP) + tile // 2
        for up, line in enumerate(reversed(lines)):
            pen.text((centre, top - 10 - up * (LABEL + 4)), line, FAINT, _font(LABEL), anchor="ms")
    y = top
    for row in rows:
        y += row.apart * APART
        _draw_label(pen, row, MARGIN, y + tile // 2, label_width - 14)
        for column, cell in enumerate(row.cells):
            _draw_cell(sheet, pen, cell, (MARGIN + label_width + column * (tile + GAP), y), tile)
        y += tile + GAP
    return sheet


def _draw_label(pen: ImageDraw.ImageDraw, row: Row, x: int, centre: int, width: int) -> None:
    lines = [(line, LABEL, INK) for line in wrapped(row.label, LABEL, width, 4)]
    lines += [(line, NOTE, FAINT) for line in wrapped(row.note, NOTE, width, 2)]
    y = centre - sum(size + 5 for _, size, _ in lines) // 2
    for text, size, colour in lines:
        pen.text((x, y), text, colour, _font(size))
        y += size + 5


def _draw_cell(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell, corner: tuple[int, int], tile: int
) -> None:
    x, y = corner
    frame = (x, y, x + tile - 1, y + tile - 1)
    if cell.picture is not None:
        sheet.paste(cell.picture.resize((tile, tile), Image.Resampling.BICUBIC), corner)
        pen.rectangle(frame, outline=LINE)
        return
    pen.rectangle(frame, fill=HOLE, outline=LINE)
    lines = wrapped(cell.words, NOTE, tile - 16, 4)
    for index, line in enumerate(lines):
        middle = y + tile / 2 + (index - (len(lines) - 1) / 2) * (NOTE + 4)
        pen.text((x + tile / 2, middle), line, FAINT, _font(NOTE), anchor="mm")


def wrapped(text: str, size: int, width: int, lines: int) -> list[str]:
    """The text in at most so many lines of `width` pixels; what does not fit ends in an ellipsis."""
    pieces: list[str] = []
    for word in text.replace("(", " (").split():
        first, *rest = _pieces(word, size, width)
        pieces += [f" {first}", *rest]
    done: list[str] = []
    line = ""
    for index, piece in enumerate(pieces):
        longer = f"{line}{piece}".strip()
        if not line or _length(longer, size) <= width:
            line = longer
        elif len(done) == lines - 1:
            return [*done, fitted(line + "".join(pieces[index:]), size, width)]
        else:
            done, line = [*done, fitted(line, size, width)], piece.strip()
    return [*done, fitted(line, size, width)] if line else done


def _pieces(word: str, size: int, width: int) -> list[str]:
    """A word, cut behind some of its `_` and `=` where it is wider than `width` pixels."""
    pieces = [""]
    for part in re.findall("[^_=]+[_=]*|[_=]+", word):
        if pieces[-1] and _length(pieces[-1] + part, size) > width:
            pieces.append(part)
        else:
            pieces[-1] += part
    return pieces


def fitted(text: str, size: int, width: int) -> str:
    """The text, or as much of its beginning as fits in `width` pixels, with an ellipsis."""
    if _length(text, size) <= width:
        return text
    while text and _length(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _length(text: str, size: int) -> float:
    return _font(size).getlength(text)
