"""The values that a figure draws, as a text within its PNG file, which programs that show images skip."""

from __future__ import annotations

import struct
import zlib

from pydantic import BaseModel, TypeAdapter

_MARK = b"tEXtDrawn\0"
_END = b"\0\0\0\0IEND\xaeB`\x82"  # of every PNG file
Values = tuple[float | None, ...]  # none where a line has no value


class Line(BaseModel, frozen=True, extra="forbid"):
    """The values of a line, or of a row of a map, at its panel's x; `at` is the row's place on the vertical axis."""

    label: str
    values: Values
    color: str = ""
    at: float | None = None


class Panel(BaseModel, frozen=True, extra="forbid"):
    """A panel of a figure, with all lines that have a label.

    Attributes:
        title: of the setting, "" if there is none.
        across: the name of the horizontal axis.
        up: the name of the vertical axis, or of what a map shows.
        box: left, top, right and bottom, as fractions of the image.
        x_axis: its left and its right end, and 1 if it is logarithmic, else 0.
        y_axis: its lower and its upper end, likewise.
        x: where the lines have values, ascending.
        names: what is written below each x, if the axis counts columns.
        lines: in the order in which they were drawn.
    """

    title: str
    across: str
    up: str
    box: tuple[float, float, float, float]
    x_axis: tuple[float, float, int]
    y_axis: tuple[float, float, int]
    x: tuple[float, ...]
    names: tuple[str, ...]
    lines: tuple[Line, ...]


_PANELS = TypeAdapter(tuple[Panel, ...])


def with_panels(png: bytes, panels: tuple[Panel, ...]) -> bytes:
    """The image with its panels' values before its end."""
    text = _PANELS.dump_json(panels, ensure_ascii=True)
    chunk = _MARK + text
    return png.removesuffix(_END) + struct.pack(">I", len(chunk) - 4) + chunk + _crc(chunk) + _END


def without_panels(png: bytes) -> tuple[bytes, tuple[Panel, ...]]:
    """The image alone, and its panels: none if the file has no such text.

    Raises:
        ValueError: if the text is damaged.
    """
    image, mark, rest = png.rpartition(_MARK)
    if not mark:
        return png, ()
    text, crc = rest[: -4 - len(_END)], rest[-4 - len(_END) : -len(_END)]
    if _crc(mark + text) != crc:
        raise ValueError("the text of its values is damaged")
    return image[:-4] + _END, _PANELS.validate_json(text)


def as_json(panels: tuple[Panel, ...]) -> str:
    """The panels as the report's script reads them."""
    return _PANELS.dump_json(panels).decode()


def _crc(chunk: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(chunk))
