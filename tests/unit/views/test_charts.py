"""Pictures of arrays with known answers: what has to be seen is there, in its place, and no line is too wide."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rich.text import Text

from clipcal.views.figures.course import Course
from clipcal.views.terminal import charts
from clipcal.views.terminal import timeline as over_steps
from clipcal.views.terminal.charts import MIN_WIDTH, sparkline

WIDTHS = (24, 40, 60, 79, 80, 81, 120, 200)
BARS = " ▁▂▃▄▅▆▇█"
SPIKES = {41: 6.8, 77: 12.0, 120: 93.0, 190: 31.0, 191: 9.0, 260: 55.0}

any_floats = arrays.arrays(np.float64, st.integers(0, 60), elements=st.floats(width=64))
usual_floats = arrays.arrays(
    np.float64, st.integers(0, 300), elements=st.floats(1e-3, 1e3) | st.sampled_from([0.0, math.nan, math.inf])
)
marks = st.none() | st.floats(width=64)


def trace(*, num_steps: int = 300) -> Any:
    """A level of 1.31, a warm-up of 18 steps from 12 times that, and six spikes."""
    norms = 1.31 * np.exp(np.random.default_rng(0).normal(0, 0.17, num_steps))
    norms[:18] *= np.geomspace(12, 1, 18)
    for step, norm in SPIKES.items():
        norms[step] = norm
    return norms


def of(
    norms: Any,
    steps: Any = None,
    *,
    median: float | None = None,
    spikes: Any = (),
    first_step: int | None = None,
    last_step: int | None = None,
) -> Course:
    """``spikes`` are step numbers; steps that go back are counted from 0 instead."""
    x = np.asarray(norms, dtype=np.float64)
    numbers = np.arange(x.size, dtype=np.float64) if steps is None else np.asarray(steps, dtype=np.float64)
    in_order = bool((np.diff(numbers) > 0).all())
    return Course(
        unit="gradient norm",
        steps=numbers if in_order else np.arange(x.size, dtype=np.float64),
        norms=x,
        losses=None,
        level=np.full(x.size, np.nan),
        spikes=np.flatnonzero(np.isfinite(x) & (x > 0) & np.isin(numbers, list(spikes))),
        nonfinite=np.flatnonzero(~np.isfinite(x)),
        healthy=np.ones(x.size, dtype=np.bool_),
        shown=None,
        median=median,
        max_norm=None,
        interval=None,
        corridor=None,
        first_stable=first_step,
        last_healthy=last_step,
        in_order=in_order,
    )


def histogram(
    norms: Any,
    *,
    spikes_from: float | None = None,
    width: int = 80,
    height: int = 8,
    threshold: float | None = None,
    ascii: bool = False,
    **marked: Any,
) -> list[Text]:
    spikes = () if spikes_from is None else np.flatnonzero(np.asarray(norms, dtype=np.float64) >= spikes_from)
    c = of(norms, spikes=spikes, **marked)
    return charts.histogram(c, threshold=threshold, width=width, height=height, ascii=ascii)


def timeline(
    *data: Any, width: int = 80, height: int = 12, threshold: float | None = None, ascii: bool = False, **marked: Any
) -> list[Text]:
    return over_steps.timeline(of(*data, **marked), threshold=threshold, width=width, height=height, ascii=ascii)


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def plot_area(lines: list[str]) -> tuple[list[str], int]:
    """The rows between the axes of a timeline, without their labels, and the column at which they start."""
    base = next(i for i, line in enumerate(lines) if "└" in line)
    left = lines[base].index("└") + 1
    return [line[left:] for line in lines[:base] if line[left - 1 : left] == "│"], left


def check_widths(lines: list[Text], width: int, *, ascii: bool) -> None:
    assert lines
    for line in lines:
        assert "\n" not in line.plain
        assert line.cell_len == len(line.plain) <= max(width, 0)
        assert not ascii or line.plain.isascii()


# --- sparkline


def test_sparkline_of_known_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]).plain == "▁▂▃▄▅▆▇█"
    assert sparkline([1, math.nan, 8, math.inf]).plain == "▁×█×"
    assert sparkline([]).plain == ""
    assert len(set(sparkline([3.0] * 5).plain)) == 1
    assert sparkline([math.nan] * 3).plain == "×××"
    # Decades are equal steps where the range is wide, and zeros or negative numbers keep it linear.
    assert sparkline([1, 10, 100, 1000], 4).plain == "▁▃▆█"
    assert sparkline([0, 1, 1000], 3).plain == "▁▁█"


@pytest.mark.parametrize("width", [1, 7, 40, 80])
def test_sparkline_keeps_every_spike(width: int) -> None:
    for place in (0, 1, 499, 777, 999):
        values = np.ones(1000)
        values[place] = 50.0
        line = sparkline(values, width).plain
        assert len(line) == width
        column = max(i for i in range(width) if i * 1000 // width <= place)
        assert line[column] == max(line, key=BARS.index)
        assert width == 1 or line.count("█") == 1


# --- histogram


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_histogram_marks_stand_where_the_axis_says(width: int) -> None:
    norms = np.array([1.0] * 50 + [2.0] * 20 + [1000.0])
    lines = plain(histogram(norms, width=width, median=1.0, threshold=10.0, spikes_from=1000.0))
    base = next(i for i, line in enumerate(lines) if "┴" in line)
    ticks = [i for i, char in enumerate(lines[base]) if char == "┴"]
    where = dict(zip(lines[base + 1].removeprefix("norm").split(), ticks, strict=True))
    one, ten, hundred, thousand = (where[label] for label in ("1", "10", "100", "1000"))
    # A decade is a decade, to the rounding of a cell.
    assert max(np.diff([one, ten, hundred, thousand])) - min(np.diff([one, ten, hundred, thousand])) <= 1
    # Each label starts at its line; the last one has no room to the right and ends there.
    assert lines[0].startswith("M stable median 1", one)
    assert lines[1].startswith("T threshold 10", ten)
    assert lines[2].endswith("S 1 spike from 1000")
    assert len(lines[2]) == thousand + 1
    assert [line[ten] for line in lines[2 : base - 1]] == ["┊"] * (base - 3)
    # One step of 71 shows, in its place.
    assert lines[base - 1][thousand] == "▂"


def test_histogram_heights_are_counts() -> None:
    lines = plain(histogram(np.repeat([1.0, 10.0, 100.0], [40, 20, 10]), width=80, height=8))
    assert lines[0].split()[0] == "40"
    # The labels of the counts take three cells: the digits of the number of steps, and a space.
    columns = zip(*(line.ljust(80)[3:] for line in lines[:8]), strict=True)
    heights = [height for height, _ in groupby(sum(map(BARS.index, column)) for column in columns)]
    assert heights == [64, 0, 32, 0, 16]


@pytest.mark.parametrize("num_steps", [50, 300, 3000])
def test_histogram_bars_hold_every_step(num_steps: int) -> None:
    # With as many rows as the tallest bar has steps, one cell is one step; the wide range makes bars one cell wide.
    norms = [*np.exp(np.random.default_rng(1).normal(0, 0.5, num_steps - 1)), 1e8]
    peak = int(plain(histogram(norms, width=80))[0].split()[0])
    lines = plain(histogram(norms, width=80, height=peak))
    left = len(str(num_steps)) + 1
    assert sum(line[left:].count("█") for line in lines[:peak]) == num_steps


def test_histogram_says_what_it_cannot_draw() -> None:
    assert "not drawn: 2 non-finite, 1 zero" in plain(histogram([1.0, 2.0, math.nan, math.inf, 0.0]))[-1]
    assert "No positive, finite norm to draw" in plain(histogram([math.nan, 0.0]))[0]
    assert plain(histogram([])) == ["No positive, finite norm to draw"]
    text = "\n".join(plain(histogram([1.0, 2.0], median=math.nan, threshold=math.inf, spikes_from=None)))
    assert not set("MTS") & set(text)


def test_histogram_labels_do_not_run_together() -> None:
    for width in range(MIN_WIDTH, 201, 16):
        for high in (1.01, 1.5, 3.0, 20.0, 1e3, 1e6, 1e22):
            lines = plain(histogram(np.geomspace(1.0, high, 200), width=width))
            axis = next(i for i, line in enumerate(lines) if "─" in line)
            assert len(lines[axis + 1].removeprefix("norm").split()) == lines[axis].count("┴"), (width, high)
            assert lines[axis].count("┴") >= 1


# --- timeline


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("num_steps", [300, 100_000])
def test_timeline_shows_every_spike_in_its_column(width: int, num_steps: int) -> None:
    norms = trace(num_steps=num_steps)
    lines = plain(timeline(norms, width=width, threshold=2.4, spikes=SPIKES, first_step=18))
    rows, left = plot_area(lines)
    tallest = 120
    column = tallest * (width - left) // (num_steps - 1)
    assert rows[0][column] == "▲" or rows[1][column] == "▲"
    columns = {i for row in rows for i, char in enumerate(row) if char == "▲"}
    assert columns == {step * (width - left) // (num_steps - 1) for step in SPIKES}
    assert any("6 spikes" in line for line in lines)


def test_timeline_draws_a_spike_that_nobody_marked() -> None:
    for place in (0, 1, 500_000, 999_999):
        norms = np.ones(1_000_000)
        norms[place] = 100.0
        rows, left = plot_area(plain(timeline(norms, width=80)))
        column = min(place * (80 - left) // 999_999, 80 - left - 1)
        assert [i for i, char in enumerate(rows[0]) if char != " "] == [column]


@pytest.mark.parametrize("height", [5, 9, 13, 21])
@pytest.mark.parametrize("threshold", [1.0, 10.0, 100.0, 1000.0, 10_000.0])
def test_timeline_threshold_is_at_the_right_row(height: int, threshold: float) -> None:
    # The axis runs from 1 to 10,000 with 2% of the four decades as room at either end; row 0 is the top.
    norms = np.array([1.0, *[10_000.0] * 8, *[1.0] * 20])
    lines = plain(timeline(norms, width=80, height=height, threshold=threshold))
    rows, left = plot_area(lines)
    assert len(rows) == height
    share = (4 + 0.08 - math.log10(threshold)) / 4.16
    expected = math.floor(share * height)
    assert [i for i, row in enumerate(rows) if "╌" in row] == [expected]
    labelled = [line for line in lines if line.strip().startswith("T ") and "│" in line]
    assert labelled == [lines[expected]]
    assert labelled[0][: left - 1].split() == ["T", f"{threshold:.0f}"]


def test_timeline_marks_what_is_not_healthy() -> None:
    norms = trace()
    norms[220:] *= np.geomspace(1, 1e6, 80)
    norms[280:] = math.nan
    norms[100] = 0.0
    lines = plain(timeline(norms, width=80, threshold=2.4, first_step=18, last_step=222))
    rows, left = plot_area(lines)
    assert "warm-up, to step 17" in lines[0]
    assert "diverging, from step 223" in lines[1]
    assert lines[0].index("┊") == left + 18 * (80 - left) // 299
    assert lines[1].rindex("┊") == left + 223 * (80 - left) // 299
    assert {i for i, char in enumerate(rows[0]) if char == "×"} == {i * (80 - left) // 299 for i in range(280, 299)}
    assert rows[-1][100 * (80 - left) // 299] == "o"
    assert "× 20 non-finite   o 1 zero" in lines[-1]


def test_timeline_of_real_steps() -> None:
    lines = plain(timeline([1.0, 2.0, 3.0, 4.0], [1000, 1010, 1020, 1030], width=80, first_step=1010))
    assert "warm-up, to step 1000" in lines[0]
    assert lines[-1].split()[:2] == ["step", "1,000"]
    joined = plain(timeline([1.0, 2.0, 3.0, 4.0], [0, 10, 0, 10], width=80, first_step=5))
    assert joined[-1].split() == ["line", "0", "1", "2", "3"]
    assert plain(timeline([])) == ["No steps to draw"]


def test_narrow_terminals_get_a_sparkline() -> None:
    for width in range(MIN_WIDTH):
        assert plain(timeline(trace(), width=width)) == [sparkline(trace(), width).plain]
        assert plain(histogram(trace(), width=width)) == [sparkline(trace(), width).plain]


# --- all of them

AWKWARD: dict[str, Any] = {
    "empty": [],
    "one": [1.3],
    "one NaN": [math.nan],
    "all NaN": [math.nan] * 50,
    "all inf": [math.inf] * 50,
    "zeros": [0.0] * 50,
    "constant": [1.0] * 50,
    "tiny": np.geomspace(1e-10, 1e-9, 30),
    "huge": np.geomspace(1e11, 1e12, 30),
    "both": [1e-10, 1e12],
    "whole range": [5e-324, 1.7e308],
    "mixed": [1.0, 0.0, math.nan, 1e5, -math.inf, math.inf, -3.0],
    "float32": np.ones(5, dtype=np.float32),
    "ten": [3, 2, 1.5, 1.2, 1.1, 9, 1, 1.2, 1.1, 0.9],
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("threshold", [None, 2.4, math.nan, 1e300])
def test_awkward_arrays(name: str, ascii: bool, threshold: float | None) -> None:
    norms = AWKWARD[name]
    for width in (-1, 0, 1, MIN_WIDTH - 1, MIN_WIDTH, 80, 200):
        check_widths([sparkline(norms, width, ascii=ascii)], width, ascii=ascii)
        check_widths(
            histogram(norms, width=width, median=threshold, threshold=threshold, spikes_from=threshold, ascii=ascii),
            width,
            ascii=ascii,
        )
        check_widths(
            timeline(norms, width=width, median=threshold, threshold=threshold, spikes=[0, 3], ascii=ascii),
            width,
            ascii=ascii,
        )


@settings(deadline=None)
@given(
    norms=any_floats | usual_floats,
    width=st.integers(0, 220),
    height=st.integers(0, 20),
    numbers=st.tuples(marks, marks, marks),
    borders=st.tuples(st.none() | st.integers(-5, 400), st.none() | st.integers(-5, 400)),
    ascii=st.booleans(),
)
def test_no_floats_break_a_picture(
    norms: Any,
    width: int,
    height: int,
    numbers: tuple[float | None, float | None, float | None],
    borders: tuple[int | None, int | None],
    ascii: bool,
) -> None:
    median, threshold, spikes_from = numbers
    first_step, last_step = borders
    check_widths([sparkline(norms, width, ascii=ascii)], width, ascii=ascii)
    bars = histogram(
        norms, width=width, height=height, median=median, threshold=threshold, spikes_from=spikes_from, ascii=ascii
    )
    check_widths(bars, width, ascii=ascii)
    curve = timeline(
        norms,
        np.cumsum(1 + np.arange(norms.size) % 3),
        width=width,
        height=height,
        median=median,
        threshold=threshold,
        spikes=range(0, 50, 7),
        first_step=first_step,
        last_step=last_step,
        ascii=ascii,
    )
    check_widths(curve, width, ascii=ascii)


@settings(deadline=None, max_examples=50)
@given(arrays.arrays(np.float64, st.integers(0, 60), elements=st.integers(-(2**53), 2**53).map(float)))
def test_no_step_numbers_break_a_timeline(steps: Any) -> None:
    """Any that are read: others are refused before anything is drawn."""
    check_widths(timeline(np.ones(steps.size), steps, first_step=3, last_step=5), 80, ascii=False)


def test_colour_is_never_alone() -> None:
    lines = timeline(trace(), width=80, threshold=2.4, median=1.31, spikes=SPIKES, first_step=18)
    lines += histogram(trace()[18:], width=80, threshold=2.4, median=1.31, spikes_from=6.8)
    assert {str(span.style) for line in lines for span in line.spans} == {"red", "green", "cyan", "dim"}
    text = "\n".join(plain(lines))
    assert all(
        word in text for word in ("▲ 6 spikes", "T threshold 2.4", "M stable median 1.31", "S 6 spikes from 6.8")
    )
    assert all(word in text for word in ("T 2.4 │", "M 1.31 │", "warm-up, to step 17"))
