"""The grid, the glyphs and the legends that pictures made of characters are drawn with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from rich.text import Text

MEDIAN, THRESHOLD, SPIKE, QUIET = "cyan", "green", "red", "dim"


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """The characters of a picture. ``bars`` and ``levels`` go from low to high; ``braille`` is U+2800, or empty."""

    bars: str
    levels: str
    braille: str
    rule: str
    threshold: str
    axis: str
    tick: str
    side: str
    corner: str
    before: str
    after: str
    spike: str
    nonfinite: str
    zero: str


# fmt: off
UNICODE = Glyphs(
    bars="▁▂▃▄▅▆▇█", levels="▁▂▃▄▅▆▇█", braille="\u2800", rule="┊", threshold="╌", axis="─", tick="┴", side="│",
    corner="└", before="◂", after="▸", spike="▲", nonfinite="×", zero="o",
)
ASCII = Glyphs(
    bars=".:#", levels="_.-=+*#", braille="", rule="|", threshold="-", axis="-", tick="+", side="|",
    corner="+", before="<", after=">", spike="^", nonfinite="x", zero="o",
)
# fmt: on


class Canvas:
    """A grid of characters with styles. What is put outside of it is cut, so no line is ever too wide."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.chars = [[" "] * width for _ in range(height)]
        self.styles = [[""] * width for _ in range(height)]

    def put(self, row: int, column: int, text: str, style: str = "", *, under: bool = False) -> None:
        """Write from a place to the right; ``under`` leaves alone what is there already."""
        for i, char in enumerate(text, start=column):
            if 0 <= i < self.width and not (under and self.chars[row][i] != " "):
                self.chars[row][i], self.styles[row][i] = char, style

    def dim(self, rows: range, columns: range) -> None:
        """Make what is drawn there step back."""
        for row in rows:
            for column in columns:
                self.styles[row][column] = QUIET

    def lines(self) -> list[Text]:
        answer = []
        for chars, styles in zip(self.chars, self.styles, strict=True):
            line = Text(no_wrap=True)
            cells = zip("".join(chars).rstrip(), styles, strict=False)
            for style, run in itertools.groupby(cells, key=lambda cell: cell[1]):
                line.append("".join(char for char, _ in run), style or None)
            answer.append(line)
        return answer


def wrapped(items: list[tuple[str, str]], width: int, indent: int = 0) -> list[Text]:
    """Texts with their styles side by side, in as many lines as they need."""
    lines: list[Text] = []
    for text, style in items:
        if not lines or len(lines[-1]) + 3 + len(text) > width:
            lines.append(Text(" " * indent, no_wrap=True))
        elif len(lines[-1]) > indent:
            lines[-1].append("   ")
        lines[-1].append(text[: max(width - indent, 0)], style)
    return lines
