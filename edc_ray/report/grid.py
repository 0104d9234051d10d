"""A set of images as one PNG, in rows, with small images enlarged. N images, C channels, H W pixels."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SHOWN_SIDE = 64  # smallest side of an image in the grid, in pixels
_GAP = 2
_MARGIN = 6
_FONT_SIZE = 13
_NAME_WIDTH = 160
_INK, _PAPER = (30, 30, 30), (255, 255, 255)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write_grid(
    images_NCHW: np.ndarray, columns: int, *, row_names: Sequence[str] = (), title: str = ""
) -> bytes:
    """A grid of images as a PNG, filled row by row.

    Images smaller than 64 pixels are enlarged by an integer factor: a stored pixel becomes a square.

    Args:
        images_NCHW: uint8, 1 or 3 channels.
        columns: images in a row.
        row_names: written left of each row, such as the class; empty for none.
        title: a line above the grid; empty for none.

    Raises:
        ValueError: wrong type or shape, no image, no column, or the number of names differs from the rows.
    """
    _check(images_NCHW, columns, row_names)
    factor = max(1, math.ceil(_SHOWN_SIDE / min(images_NCHW.shape[2:])))
    # Grey becomes three equal channels.
    coloured = np.broadcast_to(images_NCHW, (len(images_NCHW), 3, *images_NCHW.shape[2:]))
    tiles = coloured.transpose(0, 2, 3, 1).repeat(factor, axis=1).repeat(factor, axis=2)
    font = ImageFont.load_default(_FONT_SIZE)
    names = [_shortened(name, font) for name in row_names]
    left = _MARGIN + (math.ceil(max(font.getlength(name) for name in names)) + _MARGIN if names else 0)
    top = _MARGIN + (_FONT_SIZE + _MARGIN if title else 0)
    height, width = tiles.shape[1:3]
    rows = math.ceil(len(tiles) / columns)
    grid_width = columns * (width + _GAP) - _GAP
    page_width = left + max(grid_width, math.ceil(font.getlength(title))) + _MARGIN
    page = Image.new("RGB", (page_width, top + rows * (height + _GAP) - _GAP + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((left, _MARGIN), title, _INK, font=font)
    for row, name in enumerate(names):
        middle = top + row * (height + _GAP) + height // 2
        draw.text((left - _MARGIN, middle), name, _INK, font=font, anchor="rm")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        page.paste(Image.fromarray(tile), (left + column * (width + _GAP), top + row * (height + _GAP)))
    buffer = io.BytesIO()
    page.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _check(images_NCHW: np.ndarray, columns: int, row_names: Sequence[str]) -> None:
    if images_NCHW.dtype != np.uint8 or images_NCHW.ndim != 4 or images_NCHW.shape[1] not in (1, 3):
        raise ValueError(
            f"images must be uint8 [N, 1 or 3, H, W], got {images_NCHW.dtype} {images_NCHW.shape}"
        )
    if not images_NCHW.size or columns < 1:
        raise ValueError(f"a grid needs an image and a column, got {len(images_NCHW)} and {columns}")
    rows = math.ceil(len(images_NCHW) / columns)
    if row_names and len(row_names) != rows:
        raise ValueError(f"{len(row_names)} names for {rows} rows")


def _shortened(name: str, font: _Font) -> str:
    if font.getlength(name) <= _NAME_WIDTH:
        return name
    while name and font.getlength(name + "...") > _NAME_WIDTH:
        name = name[:-1]
    return name + "..."
