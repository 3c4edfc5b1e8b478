"""What a thing is -> how it looks: one colour, one line, one way to write a number, in every picture."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator

import matplotlib
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

# Okabe and Ito (2008, "Color Universal Design"): eight colours that all common kinds of colour vision tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE, DARK = "#8C8C8C", "#E9E9E9", "#4D4D4D"

NORM, STABLE, OTHERS = GREY, GREY, PALE
SPIKE, THRESHOLD, CORRIDOR, IN_USE = VERMILLION, BLUE, SKY, ORANGE
LOSS, MEDIAN, LEVEL = GREEN, BLACK, BLACK
IN_USE_DASHES = (0, (5, 1.5, 1, 1.5))
IN_USE_INK, RULE_INK, CORRIDOR_INK = "#A86F00", "#8A4A72", "#2B7BAD"
"""For letters, which are thin: darker than the lines that they name."""

TINY, SMALL, NORMAL, LARGE = 6.2, 7.0, 8.0, 9.5
"""Points: names of rules and layers, labels in a picture, axes, the headline."""

RC: dict[str, object] = {
    "font.family": ["sans-serif"],
    # Verdana is as wide as DejaVu Sans, which a viewer of an SVG may not have
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": NORMAL,
    "axes.labelsize": NORMAL,
    "axes.titlesize": NORMAL,
    "xtick.labelsize": SMALL + 0.5,
    "ytick.labelsize": SMALL + 0.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.minor.size": 1.8,
    "ytick.minor.size": 1.8,
    "lines.linewidth": 0.9,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # the names of layers and runs are data: a $ in them is a $
    # Text stays text: it can be searched, read aloud, edited, and set in the paper's own font; as outlines it would
    # also be larger.
    "svg.fonttype": "none",
    "svg.hashsalt": "clipcal",  # otherwise the same picture has other ids every time
    "pdf.fonttype": 42,  # TrueType, which publishers ask for, and not Type 3
    "agg.path.chunksize": 20_000,
}


@contextlib.contextmanager
def our_style() -> Iterator[None]:
    """Draw as we do, whatever the user's matplotlibrc says, and leave their settings as they were."""
    with matplotlib.rc_context(), warnings.catch_warnings(), np.errstate(all="ignore"):
        # a name in a script that the font lacks is drawn as boxes; that is no reason to say anything
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from (current )?font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)  # type: ignore[arg-type]
        yield


def percent(share: float) -> str:
    """A share for reading: 0%, 0.4%, 12%; never 0% or 100% of something that is not all or nothing."""
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 < share < 1:
        return ">99.9%"
    return f"{share:.1%}" if 0 < min(share, 1 - share) < 0.0995 else f"{share:.0%}"


def shown(text: str) -> str:
    """A name as one line: what cannot be printed, line breaks too, as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Points, with the little that the dots of a png take more."""
    font = FontProperties(family="sans-serif", size=size, weight="bold" if bold else "normal")
    return 1.03 * float(text_to_path.get_text_width_height_descent(text, font, False)[0]) if text else 0.0


def shortened(text: str, size: float, width: float, *, bold: bool = False) -> str:
    """The name as one line of at most ``width`` points: its middle is left out, as both ends tell layers apart."""
    text = shown(text)
    if len(text) > 300:
        text = f"{text[:140]}…{text[-140:]}"
    if width_of(text, size, bold=bold) <= width:
        return text
    low, high = 0, len(text) - 1  # characters to keep
    while low < high:
        keep = (low + high + 1) // 2
        low, high = (keep, high) if width_of(_without_middle(text, keep), size, bold=bold) <= width else (low, keep - 1)
    return _without_middle(text, low)


def ended(text: str, size: float, width: float) -> str:
    """A sentence of at most ``width`` points: what is too long ends in dots."""
    text = shown(text)[:400]
    if width_of(text, size) <= width:
        return text
    while text and width_of(f"{text} …", size) > width:
        text = text.rpartition(" ")[0]
    return f"{text} …"


def _without_middle(text: str, keep: int) -> str:
    first = keep // 3  # the end of a layer's name says more than its beginning
    return f"{text[:first]}…{text[len(text) - (keep - first) :] if keep > first else ''}"


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def tick_label(value: float) -> str:
    """0.001, 0.2, 5, 2,000, 10⁻⁵, 2·10⁷."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    if -4 < exponent < 5:
        digits = f"{value:,.6g}" if exponent < 0 else f"{value:,.10g}"
        return digits.replace("-", "−")
    factor = value / 10.0**exponent if exponent > -300 else 1.0
    power = f"10{str(exponent).translate(_SUPERSCRIPTS)}"
    return power if abs(factor - 1) < 1e-6 else f"{factor:.3g}·{power}".replace("-", "−")
