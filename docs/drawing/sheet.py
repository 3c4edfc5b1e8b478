"""What a picture draws -> an SVG on a light panel, in the pixels of a page, that is read on light and on dark pages."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from clipcal.views.image import style
from clipcal.views.image.saving import save

PICTURES = Path(__file__).parents[1] / "pictures"
WIDTH = 760
"""Pixels: the text column of the pages, and nearly that of a README. One point of matplotlib's is one of them."""
TEXT, TICKS, TITLE = 15.0, 14.0, 16.0
"""Pixels of letters: on a phone, at half the width, they are to be read still."""
EDGE = "#D0D7DE"
RC: dict[str, object] = {
    "font.size": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TICKS,
    "ytick.labelsize": TICKS,
    "axes.linewidth": 1.0,
    "xtick.major.width": 1.0,
    "ytick.major.width": 1.0,
    "xtick.minor.width": 0.6,
    "ytick.minor.width": 0.6,
    "xtick.major.size": 4.0,
    "ytick.major.size": 4.0,
    "xtick.minor.size": 2.5,
    "ytick.minor.size": 2.5,
    "xtick.major.pad": 4.0,
    "ytick.major.pad": 4.0,
}

Draw = Callable[[], Figure]


def draw(name: str, make: Draw, folder: Path = PICTURES) -> Path:
    """Write what ``make`` draws to NAME.svg in ``folder``, the same bytes for the same numbers."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.svg"
    with style.our_style(), tempfile.TemporaryDirectory() as aside:
        matplotlib.rcParams.update(RC)  # type: ignore[arg-type]
        drawn = Path(aside) / file.name
        save(make(), drawn)
        file.write_text(_in_pixels(drawn.read_text(encoding="utf-8")), encoding="utf-8")
    return file


def sheet(height: float) -> Figure:
    """An empty panel with round corners, ``height`` pixels high; what lies around it is see-through."""
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    figure.set_facecolor("none")
    panel = FancyBboxPatch(
        (0.5 / 72, 0.5 / 72), (WIDTH - 1) / 72, (height - 1) / 72, boxstyle=f"round,pad=0,rounding_size={10 / 72}",
        facecolor="white", edgecolor=EDGE, lw=1.0, transform=figure.dpi_scale_trans, zorder=-1,
    )  # fmt: skip
    figure.add_artist(panel)
    return figure


def place(figure: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes between pixels counted from the upper left corner; see-through, as the panel is behind them."""
    height = figure.get_figheight() * 72
    axes = figure.add_axes((left / WIDTH, 1 - bottom / height, (right - left) / WIDTH, (bottom - top) / height))
    axes.set_facecolor("none")
    return axes


def title(figure: Figure, x: float, y: float, text: str, *, more: str = "", color: str = style.BLACK) -> None:
    """``text`` in bold with its baseline at pixel ``y`` from above, and ``more`` behind it."""
    height = figure.get_figheight() * 72
    figure.text(x / WIDTH, 1 - y / height, text, fontsize=TITLE, fontweight="bold", va="baseline", color=color)
    if more:
        x += style.width_of(text, TITLE, bold=True) / 1.03 + 6
        figure.text(x / WIDTH, 1 - y / height, more, fontsize=TEXT, va="baseline", color=style.DARK)


def write(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float] = (0, 0), **looks: Any) -> None:
    """``text`` at a place of the data, ``shift`` pixels to the right and up, on white so that it is read over lines."""
    looks = {"fontsize": TEXT, "zorder": 8, "annotation_clip": False} | looks
    behind = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.2}
    axes.annotate(text, at, shift, textcoords="offset points", bbox=behind, **looks)


def _in_pixels(svg: str) -> str:
    """The size of the whole in pixels in place of points, which a page would show a third larger."""
    return re.sub(
        r'(<svg [^>]*?(?:width|height)=")([\d.]+)pt("[^>]*? (?:width|height)=")([\d.]+)pt', r"\1\2\3\4", svg, count=1
    )
