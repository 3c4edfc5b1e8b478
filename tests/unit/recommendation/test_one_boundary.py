"""Where a run stops to be healthy is one number in every output, and every picture of it ends at one place."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import Floats, falling, make_run, quiet
from typer.testing import CliRunner

from clipcal.checking import check
from clipcal.cli.main import app
from clipcal.recommendation.evidence import load
from clipcal.recommendation.replay import replay
from clipcal.views.figures.course import course

HEALTHY = 301
"""Steps 0 to 300, of which a fifth has a norm of exactly zero: they are healthy, and no threshold is read from them."""


def with_zeros(n: int = 400) -> Floats:
    norms = quiet(n)
    norms[:HEALTHY][3::5] = 0.0
    norms[HEALTHY:] = np.exp(np.minimum(np.arange(1.0, n - HEALTHY + 1), 600.0))
    norms[-20:] = np.nan
    return norms


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", with_zeros(), falling(400)).folder


def said(*args: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def page_of(run: Path) -> tuple[str, dict[str, Any]]:
    """The text of the page, and what it draws of the course."""
    said("report", run)
    html = (run / "report.html").read_text()
    data = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    assert data is not None
    drawn: dict[str, Any] = json.loads(data[1])["course"]
    return html, drawn


def test_every_output_names_the_same_step(run: Path) -> None:
    r = load(run).recommend()
    assert r.verdict == "diverging", "the premise"
    assert r.zeros > 50, "the premise"
    last = r.last_healthy
    assert last is not None
    assert last == pytest.approx(HEALTHY - 1, abs=8), "the last steps before it may stand above the usual range already"
    shown, words = said("recommend", run), said("recommend", run, "--plain")
    assert f"diverging, from step {last + 1} " in shown
    assert f"From step {last + 1} on the norms run away" in shown
    assert f"diverging: from step {last + 1}\n" in words
    assert f"From step {last + 1} on the norms run away" in words
    html, drawn = page_of(run)
    assert f"runs away after step {last}" in html
    assert drawn["lastHealthy"] == last
    assert course(r).last_healthy == last, "what the picture shades"


def test_a_run_that_was_recorded_under_a_guard_is_healthy_to_its_end(tmp_path: Path) -> None:
    norms = quiet(400)
    norms[5::7] = 0.0
    run = make_run(tmp_path / "run", with_zeros(), guard=0.3)
    make_run(tmp_path / "guarded", norms).trace.rename(run.guarded)
    r = load(run.folder).recommend()
    assert r.verdict == "diverging", "the premise"
    assert r.last_healthy is None
    assert "diverging: from step" not in said("recommend", run.folder, "--plain")


def test_the_page_and_the_picture_end_at_the_same_norms(run: Path) -> None:
    """Half a decade either way is for the room that each of them leaves around its curves."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from clipcal.views.image.timeline import norms_panel

    c = course(load(run).recommend())
    assert c.shown is not None
    axes = Figure().subplots()
    norms_panel(c, "max_norm").draw(axes)
    drawn, shown = np.log10(axes.get_ylim()), np.log10(page_of(run)[1]["range"])
    np.testing.assert_allclose(drawn, np.log10(c.shown), atol=0.5)
    np.testing.assert_allclose(shown, np.log10(c.shown), atol=0.5)


def test_a_runaway_end_leaves_the_picture_and_what_is_healthy_fills_it(run: Path) -> None:
    norms = with_zeros()
    c = course(load(run).recommend())
    assert c.shown is not None
    low, high = c.shown
    healthy = norms[:HEALTHY][norms[:HEALTHY] > 0]
    assert low <= healthy.min()
    assert healthy.max() * 29 < high < healthy.max() * 1000 < np.nanmax(norms)
    assert math.log10(healthy.max() / healthy.min()) > 0.19 * math.log10(high / low)


def test_a_healthy_run_is_shown_whole(tmp_path: Path) -> None:
    norms = quiet(400)
    norms[100] = 1e6
    c = course(load(make_run(tmp_path / "run", norms).folder).recommend())
    assert c.shown is not None
    assert c.shown[1] == pytest.approx(1e6)
    assert c.healthy.all()


def test_a_run_whose_steps_go_back_is_checked_and_drawn_on_the_rows_that_are_judged(tmp_path: Path) -> None:
    """The norms of the earlier rows are a hundred times those of the later ones, and another training's."""
    first = make_run(tmp_path / "first", 100 * quiet(90))
    run = make_run(tmp_path / "run", quiet(150, seed=3))
    run.trace.write_bytes(first.trace.read_bytes() + run.trace.read_bytes())
    evidence = load(run.folder)
    assert len(evidence.norms) == 240, "the premise"
    r = evidence.recommend()
    assert r.steps == 150
    assert any("The last one is judged, its 150 rows from step 0 on" in caveat for caveat in r.caveats)
    found = check(evidence, 2.0)
    assert (found.steps, found.acts.share) == (150, 0.0)
    assert sum(q.rows for q in found.quarters) + (found.warm_up.rows if found.warm_up else 0) == 150
    c = course(r)
    assert c.norms.max() < 10
    assert c.steps.tolist() == list(range(150))
    assert {row.num_steps for row in replay(r)} == {r.stable.steps if r.stable else None}
