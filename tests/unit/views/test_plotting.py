"""What is drawn for a paper, against numpy, the files themselves and the places of every text."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_trace

pytest.importorskip("matplotlib")

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from clipcal.checking import check
from clipcal.errors import InputError
from clipcal.recommendation.baselines import BASELINES
from clipcal.recommendation.evidence import Evidence, load
from clipcal.run.directory import Run, RunInfo, now
from clipcal.run.source import Source
from clipcal.run.trace import Floats
from clipcal.views.figures.course import course
from clipcal.views.figures.heat import Heat
from clipcal.views.figures.limits import log_ticks
from clipcal.views.figures.points import MOST_BINS, outline
from clipcal.views.figures.thresholds import clipped_share
from clipcal.views.image import pictures, saving
from clipcal.views.image.labels import GAP, Label, flags, spread
from clipcal.views.image.layers import heat_panel
from clipcal.views.image.sheet import Headline, page
from clipcal.views.image.style import our_style, percent, shortened, shown, tick_label, width_of
from clipcal.views.image.thresholds import SHORT, share_panel
from clipcal.views.image.timeline import norms_panel

RNG = np.random.default_rng(0)
SVG = "{http://www.w3.org/2000/svg}"


def logged(path: Path, norms: Any, losses: Any = None) -> Evidence:
    rows = ({"step": i, "grad_norm": float(v)} for i, v in enumerate(norms))
    extra = [{} if losses is None else {"loss": float(v)} for v in (norms if losses is None else losses)]
    path.write_text("".join(json.dumps(r | e) + "\n" for r, e in zip(rows, extra, strict=True)))
    return load(path)


def calm(n: int, spread_: float = 0.2) -> Floats:
    return np.exp(np.random.default_rng(n).normal(0.0, spread_, n))


def put(norms: Floats, at: Any, value: Any) -> Floats:
    norms = norms.copy()
    norms[at] = value
    return norms


SPIKY = put(calm(600), [100, 250, 251, 400, 555], 20.0)
RUNAWAY = np.concatenate([calm(200), np.exp(np.linspace(0, 20, 30)), np.full(10, math.inf)])
TRACES: dict[str, tuple[Floats, Floats | None]] = {
    "spikes": (SPIKY, 3 - np.arange(600) / 600 + RNG.normal(0, 0.1, 600)),
    "stable": (calm(400), None),
    "heavy tail": (np.exp(np.abs(RNG.standard_t(2, 500))), np.linspace(3, 1, 500)),
    "diverging": (RUNAWAY, np.concatenate([np.linspace(2, 1, 200), np.geomspace(1, 1e30, 30), np.full(10, math.nan)])),
    "vanishing": (np.geomspace(1, 1e-9, 300), np.full(300, 2.3)),
    "clipped": (np.minimum(calm(400, 0.5), 1.0), None),
    "ten steps": (calm(10), np.linspace(3, 2, 10)),
    "one step": (np.ones(1), np.ones(1)),
    "all the same": (np.ones(60), None),
    "all zero": (np.zeros(80), None),
    "none finite": (np.full(60, math.nan), None),
    "below zero": (put(calm(300), 7, -1.0), RNG.normal(-5, 1, 300)),
    "as large as floats": (1e300 * calm(200), np.where(np.arange(200) % 3 == 0, 1e308, -1e308)),
    "of all sizes": (10.0 ** RNG.uniform(-300, 300, 300), 10.0 ** RNG.uniform(-300, 300, 300)),
    "as small as floats": (np.full(100, 5e-324), None),
}


def drawn(monkeypatch: pytest.MonkeyPatch, draw: Any, *args: Any) -> Figure:
    """The figure that would be saved."""
    found: list[Figure] = []
    monkeypatch.setattr(pictures, "save", lambda figure, file: found.append(figure))
    draw(*args, Path("unused.svg"))
    return found[0]


def axes_of(figure: Figure, text: str) -> Any:
    """The axes under the panel that is entitled so."""
    title = next(t for t in figure.texts if text in t.get_text())
    below = [a for a in figure.axes if a.get_position().y1 < title.get_position()[1] + 1e-6]
    column = [a for a in below if a.get_position().x1 > title.get_position()[0] > a.get_position().x0 - 0.1]
    return max(column, key=lambda a: a.get_position().y1)


@pytest.mark.parametrize(("name", "suffix"), list(zip(TRACES, saving.SUFFIXES * len(TRACES), strict=False)))
def test_every_trace_is_drawn_without_a_warning(tmp_path: Path, name: str, suffix: str) -> None:
    norms, losses = TRACES[name]
    evidence = logged(tmp_path / "log.jsonl", norms, losses)
    file = tmp_path / f"picture{suffix}"
    pictures.draw_recommendation(evidence, evidence.recommend(), file)
    assert saving.is_ours(file)
    pictures.draw_check(evidence, check(evidence, 1.1), file)
    assert 3_000 < file.stat().st_size < 1_000_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", file.name]


def texts_of(figure: Figure) -> list[tuple[str, Any]]:
    """Every text that is seen, with its box. matplotlib keeps tick labels that are beyond the ends of an axis."""
    with our_style():
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        beyond = set()
        for axes in figure.axes:
            for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                inside = sorted(ends)
                for tick in axis.get_major_ticks():
                    if not inside[0] <= tick.get_loc() <= inside[1]:
                        beyond.add(tick.label1)
        every = [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_visible() and t.get_text().strip()]
        return [(t.get_text(), Text.get_window_extent(t, renderer)) for t in every if t not in beyond]


@pytest.mark.parametrize("name", TRACES)
def test_no_text_covers_another_or_leaves_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    norms, losses = TRACES[name]
    evidence = logged(tmp_path / "log.jsonl", norms, losses)
    r = evidence.recommend()
    near = check(evidence, 1.03 * (r.max_norm or 1.0))  # the names of two thresholds that nearly coincide
    figures = [
        drawn(monkeypatch, pictures.draw_recommendation, evidence, r),
        drawn(monkeypatch, pictures.draw_check, evidence, near),
    ]
    for figure in figures:
        boxes = texts_of(figure)
        for i, (text, box) in enumerate(boxes):
            assert box.x0 > 0 and box.y0 > 0, text  # noqa: PT018
            assert box.x1 < figure.bbox.x1 and box.y1 < figure.bbox.y1, text  # noqa: PT018
            for other, place in boxes[i + 1 :]:
                across = min(box.x1, place.x1) - max(box.x0, place.x0)
                up = min(box.y1, place.y1) - max(box.y0, place.y0)
                assert across < 1 or up < 2.5, f"{text!r} covers {other!r}"


def test_lines_are_the_numbers(tmp_path: Path) -> None:
    evidence = logged(tmp_path / "log.jsonl", SPIKY)
    r = evidence.recommend()
    assert r.verdict == "spikes"
    c = course(r, in_use=1.5)
    with our_style():
        figure = page(Headline(answer="", said="", source="", more=""), [[norms_panel(c, "max_norm")]])
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_array_equal(lines["norms"].get_xdata(), np.arange(600))
    np.testing.assert_array_equal(lines["norms"].get_ydata(), SPIKY)
    np.testing.assert_array_equal(lines["spikes"].get_xdata(), [100, 250, 251, 400, 555])
    np.testing.assert_array_equal(lines["spikes"].get_ydata(), [20.0] * 5)
    assert set(np.asarray(lines["max_norm"].get_ydata())) == {r.max_norm}
    assert set(np.asarray(lines["in use"].get_ydata())) == {1.5}
    assert set(np.asarray(lines["median"].get_ydata())) == {r.stable.median if r.stable else None}
    assert figure.axes[0].get_ylabel() == "gradient norm"
    assert figure.axes[0].get_xlabel() == "optimizer step"
    assert figure.axes[0].get_yscale() == "log"


def test_shares_are_those_of_numpy(tmp_path: Path) -> None:
    evidence = logged(tmp_path / "log.jsonl", SPIKY)
    r = evidence.recommend()
    share = clipped_share(r)
    assert share is not None
    with our_style():
        panel = share_panel(share, "gradient norm", 1)
        figure = page(Headline(answer="", said="", source="", more=""), [[panel]])
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    at = np.asarray(lines["stable steps"].get_xdata())
    stable, spikes = SPIKY[SPIKY < 10], SPIKY[SPIKY > 10]
    np.testing.assert_allclose(
        np.asarray(lines["stable steps"].get_ydata(), dtype=np.float64), [np.mean(stable > t) for t in at]
    )
    np.testing.assert_allclose(
        np.asarray(lines["spikes"].get_ydata(), dtype=np.float64), [np.mean(spikes > t) for t in at]
    )
    np.testing.assert_allclose(
        np.asarray(lines["gradient left"].get_ydata(), dtype=np.float64),
        [np.mean(np.minimum(1, t / stable)) for t in at],
    )


def test_the_quarters_are_those_of_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = logged(tmp_path / "log.jsonl", SPIKY)
    axes = axes_of(drawn(monkeypatch, pictures.draw_check, evidence, check(evidence, 1.1)), "by quarter")
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [np.mean(SPIKY[150 * k : 150 * k + 150] > 1.1) for k in range(4)])


def test_a_long_line_keeps_every_extreme() -> None:
    y = calm(100_000)
    y[[777, 50_001]] = 500.0, 0.001
    y[123] = math.nan
    x, short = outline(np.arange(100_000.0), y)
    assert x.size == short.size == 2 * MOST_BINS
    assert (np.nanmax(short), np.nanmin(short)) == (500.0, 0.001)
    for piece in range(0, MOST_BINS, 97):
        part = y[100 * piece : 100 * piece + 100]
        assert (short[2 * piece], short[2 * piece + 1]) == (np.nanmin(part), np.nanmax(part))


@pytest.mark.parametrize("suffix", saving.SUFFIXES)
def test_a_hundred_thousand_steps_are_a_small_file(tmp_path: Path, suffix: str) -> None:
    norms = put(calm(100_000), np.arange(50, 100_000, 97), 30.0)
    evidence = logged(tmp_path / "log.jsonl", norms, 3 + RNG.normal(0, 0.2, 100_000))
    file = tmp_path / f"picture{suffix}"
    pictures.draw_recommendation(evidence, evidence.recommend(), file)
    assert file.stat().st_size < (1_000_000 if suffix == ".svg" else 600_000)


def pixels(png: bytes) -> tuple[int, int, bytes, dict[str, bytes]]:
    """Width, height, the filtered rows and the text of a png, by its specification."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, packed, said, size = 8, b"", {}, (0, 0)
    while at < len(png):
        (length,), name = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        content = png[at + 8 : at + 8 + length]
        assert zlib.crc32(name + content) == struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0]
        if name == b"IHDR":
            size = struct.unpack(">II", content[:8])
        elif name == b"tEXt":
            key, _, value = content.partition(b"\0")
            said[key.decode()] = value
        elif name == b"IDAT":
            packed += content
        at += 12 + length
    return *size, zlib.decompress(packed), said


def test_a_png_has_200_dots_to_the_inch_and_says_who_drew_it(tmp_path: Path) -> None:
    evidence = logged(tmp_path / "log.jsonl", SPIKY)
    file = tmp_path / "picture.png"
    pictures.draw_recommendation(evidence, evidence.recommend(), file)
    width, height, rows, said = pixels(file.read_bytes())
    assert width == 1400
    assert height > 800
    assert len(set(rows)) > 50  # not blank
    assert said["Software"] == b"clipcal"
    assert not any("time" in key.lower() or "date" in key.lower() for key in said)


@pytest.mark.parametrize("suffix", saving.SUFFIXES)
def test_the_same_picture_is_the_same_bytes_whatever_the_user_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    evidence = logged(tmp_path / "log.jsonl", SPIKY, np.linspace(3, 2, 600))
    r = evidence.recommend()
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    pictures.draw_recommendation(evidence, r, first)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    mine = {
        "font.size": 30,
        "axes.facecolor": "black",
        "svg.fonttype": "path",
        "savefig.bbox": "tight",
        "savefig.dpi": 20,
    }
    with matplotlib.rc_context(mine):  # type: ignore[arg-type]
        pictures.draw_recommendation(evidence, r, second)
        assert matplotlib.rcParams["font.size"] == 30  # theirs is left as it was
    assert first.read_bytes() == second.read_bytes()


def test_no_state_of_pyplot_is_touched(tmp_path: Path) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_fignums()
    evidence = logged(tmp_path / "log.jsonl", SPIKY)
    pictures.draw_recommendation(evidence, evidence.recommend(), tmp_path / "picture.svg")
    assert plt.get_fignums() == before


def words(svg: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def test_the_text_of_an_svg_is_text(tmp_path: Path) -> None:
    evidence = logged(tmp_path / "a_{b}$x$.jsonl", SPIKY, np.linspace(3, 2, 600))
    r = evidence.recommend()
    file = tmp_path / "picture.svg"
    pictures.draw_recommendation(evidence, r, file)
    found = words(file.read_bytes())
    for text in (f"max_norm {r.max_norm:g}", "gradient norm", "optimizer step", "▲ 5 spikes", "loss", "AutoClip"):
        assert text in found, found
    assert any("$x$.jsonl" in text for text in found)
    ids = re.findall(r'\sid="([^"]+)"', file.read_text())
    assert len(ids) == len(set(ids))


HOSTILE = (
    "$\\frac{1}{0}$", "a_b^c_{d}", "</text><script>alert(1)</script>", "two\nlines\r", "nul\0 bell\a", "\\$100$", "$", "层.注意力",
    "\ud800 half", "layers." * 60 + "weight", "\u202eevil", "", "$\\nothing{$", "\ufffe",
)  # fmt: skip


@pytest.mark.parametrize("suffix", saving.SUFFIXES)
def test_names_show_as_themselves(tmp_path: Path, suffix: str) -> None:
    evidence = logged(tmp_path / "log.jsonl", SPIKY)
    n = len(HOSTILE)
    heat = Heat(
        names=HOSTILE,
        shares=np.full(n, 1 / n),
        rise=np.where(RNG.random((n, 50)) < 0.1, np.nan, RNG.gamma(2, 2, (n, 50))).astype(np.float32),
        first=np.arange(0.0, 600.0, 12.0),
        last=599,
        num_others=3,
        conclusion="",
    )
    headline = Headline(answer="$\\frac", said="\n$x$_", source=HOSTILE[0], more=HOSTILE[8])
    file = tmp_path / f"picture{suffix}"
    with our_style():
        figure = page(headline, [[heat_panel(heat, course(evidence.recommend()))]])
        saving.save(figure, file)
    if suffix == ".svg":
        found = words(file.read_bytes())
        for name in (
            "$\\frac{1}{0}$",
            "a_b^c_{d}",
            "two\\nlines\\r",
            "nul\\x00 bell\\x07",
            "\\$100$",
            "层.注意力",
            "$",
        ):
            assert name in found, found
        assert "\\ud800 half" in found
        assert b"<script>" not in file.read_bytes()
        assert any(text.startswith("lay") and "…" in text and text.endswith("weight") for text in found)


def test_names_are_shortened_to_their_room() -> None:
    with our_style():
        for width in (10.0, 40.0, 90.0):
            assert width_of(shortened("transformer.layers.11.attention.out_proj.weight", 7.0, width), 7.0) <= width
        assert shortened("short", 7.0, 100.0) == "short"
    assert shown("a\tb") == "a\\tb"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.09, 2.1, [0.1, 0.2, 0.3, 0.5, 1, 2]),
        (0.09, 5.1, [0.1, 0.2, 0.5, 1, 2, 5]),
        (0.9, 120, [1, 3, 10, 30, 100]),
        (1e-9, 1e3, [1e-8, 1e-6, 1e-4, 1e-2, 1, 100]),
        (1.0, 1.21, [1, 1.05, 1.1, 1.15, 1.2]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert list(log_ticks(low, high, 6)) == pytest.approx(expected)


@pytest.mark.parametrize("exponent", range(-300, 301, 25))
@pytest.mark.parametrize("ratio", [1.01, 1.5, 7.0, 400.0, 1e7])
def test_ticks_at_every_scale(exponent: int, ratio: float) -> None:
    found = log_ticks(10.0**exponent, ratio * 10.0**exponent, 6)
    assert 1 <= len(found) <= 6
    assert all(0.999 <= t / 10.0**exponent <= 1.001 * ratio for t in found)


def test_numbers_read_as_people_write_them() -> None:
    given = [0, 0.1, 0.25, 2, 100, 20_000, 1e-5, 2e7, -0.5]
    assert [tick_label(v) for v in given] == ["0", "0.1", "0.25", "2", "100", "20,000", "10⁻⁵", "2·10⁷", "−0.5"]
    shares = [percent(v) for v in (0, 1, 0.004, 0.5, 0.00001, 0.99999)]
    assert shares == ["0%", "100%", "0.4%", "50%", "<0.1%", ">99.9%"]


def test_labels_stand_apart_and_in_order() -> None:
    wanted = [50.0, 51.0, 49.0, 10.0, 99.0, 100.0]
    found = spread(wanted, 9.0, 0.0, 100.0)
    ranked = sorted(range(6), key=lambda i: wanted[i])
    assert all(found[b] - found[a] >= 9.0 - 1e-9 for a, b in pairwise(ranked))
    assert found[3] == 10.0
    assert min(found) >= 0
    assert max(found) <= 100
    assert spread([1.0, 2.0], 9.0, 0.0, 4.0) == [0.0, 4.0]


def test_flags_that_fly_over_both_edges_do_not_cover_each_other() -> None:
    """Near the left edge there is no room on the left, and near the right one none on the right."""
    labels = [Label(text=text, at=None, color="k") for text in ("max_norm 0.18", "middle 0.3", "gentle 7.2")]
    placed = flags(labels, [10.0, 30.0, 150.0], 170.0, 0.0, size=7.0)
    spans = [(f.row, f.left, f.left + width_of(f.label.text, 7.0)) for f in placed]
    for i, (row, left, right) in enumerate(spans):
        assert left >= 0
        assert not [other for other in spans[:i] if other[0] == row and left < other[2] and other[1] < right]


@pytest.mark.parametrize("seed", range(20))
def test_flags_cross_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = sorted(rng.uniform(0, 300, 12).tolist())
    labels = [Label(text="x" * int(rng.integers(1, 15)), at=0.0, color="black") for _ in places]
    with our_style():
        placed = flags(labels, places, 300.0, 60.0, size=7.0)
        wide = {id(f): width_of(f.label.text, 7.0) for f in placed}
    assert len(placed) == 12
    for a in placed:
        for b in placed:
            if a is b:
                continue
            if a.row == b.row:
                assert a.left + wide[id(a)] + GAP <= b.left + 3 or b.left + wide[id(b)] + GAP <= a.left + 3
            if b.row > a.row and 0 < a.left < 300:  # a pole passes the rows below its own
                assert not a.left + 1 < b.x < a.left + wide[id(a)] - 1


def test_every_rule_has_a_short_name() -> None:
    assert SHORT.keys() == BASELINES.keys()


def verified_run(folder: Path, diverged: bool) -> Run:
    """A run with three arms on two seeds, of which the unclipped ones are lost where ``diverged``."""
    arms = []
    for name, max_norm, level in (("unclipped", None, 2.0), ("max_norm=2", 2.0, 1.0), ("max_norm=2+lr=0.1x", 2.0, 1.5)):
        for seed in (0, 1):
            n = 120 if diverged and max_norm is None else 200
            losses = level + np.exp(-np.arange(n) / 30) + 0.1 * seed
            lost = diverged and max_norm is None
            if lost:
                losses[-20:] *= np.geomspace(1, 1e20, 20)
            write_trace(folder / "arms" / f"{name}-seed{seed}.jsonl", (level * calm(n)).tolist(), losses.tolist())
            arms.append(
                {"name": name, "max_norm": max_norm, "seed": seed, "steps": n, "loss_spikes": 0, "clip_fraction": 0.1,
                 "mean_scale": 0.9, "final_loss": "NaN" if lost else level + 0.1 * seed, "diverged_at": 110 if lost else None}
            )  # fmt: skip
    comparison = {
        "loss_difference": None if diverged else -1.0,
        "interval": None if diverged else [-1.2, -0.8],
        "seeds": 2,
    }
    (folder / "verification.json").write_text(
        json.dumps(
            {"verdict": "holds", "max_norm": 2.0, "arms": arms, "reasons": ["It $holds$."], "comparison": comparison}
        )
    )
    info = RunInfo(
        name="x", source=Source(), fingerprint="", steps=200, seeds=[0], device="cpu", threads=1, started=now()
    )
    return Run(folder, info)


@pytest.mark.parametrize("suffix", saving.SUFFIXES)
@pytest.mark.parametrize("diverged", [False, True])
def test_a_verification_is_drawn(tmp_path: Path, diverged: bool, suffix: str) -> None:
    file = tmp_path / f"picture{suffix}"
    pictures.draw_verification(verified_run(tmp_path, diverged), file)
    if suffix == ".svg":
        found = words(file.read_bytes())
        assert "max_norm 2: holds" in found
        assert {"unclipped", "max_norm=2", "max_norm=2+lr=0.1x", "optimizer step"} <= set(found)
        assert ("× lost at 110" in found) == diverged
        assert any("It $holds$." in text for text in found)


def test_each_arm_has_a_line_per_seed_and_their_median(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, pictures.draw_verification, verified_run(tmp_path, True))
    losses, norms, finals = figure.axes
    for name in ("unclipped", "max_norm=2", "max_norm=2+lr=0.1x"):
        for axes in (losses, norms):
            mine = [line for line in axes.lines if str(line.get_label()).startswith(name)]
            assert sum(line.get_label() == name for line in mine) == 2
            assert sum(line.get_label() == f"{name}, median" for line in mine) == 1
        colors = {line.get_color() for a in (losses, norms) for line in a.lines if line.get_label() == name}
        assert len(colors) == 1
    assert sum(line.get_label() == "lost" for line in losses.lines) == 2
    marks = {line.get_label(): line.get_xdata()[0] for line in finals.lines if "seed" in str(line.get_label())}  # type: ignore[index]
    assert marks == pytest.approx(
        {"max_norm=2, seed 0": 1.0, "max_norm=2, seed 1": 1.1, "max_norm=2+lr=0.1x, seed 0": 1.5, "max_norm=2+lr=0.1x, seed 1": 1.6}
    )  # fmt: skip


@pytest.mark.parametrize("suffix", saving.SUFFIXES)
def test_ours_is_told_from_what_others_drew(tmp_path: Path, suffix: str) -> None:
    theirs = io.BytesIO()
    figure = Figure(figsize=(1, 1))
    figure.text(0, 0, "clipcal Creator Software")
    figure.savefig(theirs, format=suffix[1:])
    file = tmp_path / f"picture{suffix}"
    file.write_bytes(theirs.getvalue())
    assert not saving.is_ours(file)
    with pytest.raises(InputError, match="clipcal did not write it"):
        saving.check_file(file)
    with our_style(), pytest.raises(InputError, match="clipcal did not write it"):
        saving.save(figure, file)
    assert file.read_bytes() == theirs.getvalue()
    file.unlink()
    with our_style():
        saving.save(figure, file)
        saving.check_file(file)
        saving.save(figure, file)
    assert saving.is_ours(file)


def test_an_svg_that_was_edited_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "picture.svg"
    with our_style():
        saving.save(Figure(figsize=(1, 1)), file)
    text = file.read_text()  # Inkscape writes a beginning of its own, and keeps the metadata
    edited = text.replace(text[text.index("<!DOCTYPE") : text.index("<svg")], "").replace(
        "<svg", '<svg xmlns:inkscape="x"', 1
    )
    file.write_text(edited)
    with pytest.raises(InputError):
        saving.check_file(file)


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "real.svg", tmp_path / "link.svg"
    link.symlink_to(target)
    with our_style():
        saving.save(Figure(figsize=(1, 1)), link)
        target.chmod(0o600)
        saving.save(Figure(figsize=(1, 1)), link)
    assert link.is_symlink()
    assert saving.is_ours(target)
    assert target.stat().st_mode & 0o777 == 0o600
