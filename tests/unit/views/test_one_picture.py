"""The same picture in characters, in words and on the page: they say the same, and no renderer takes its words from another."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

from clipcal.checking import check
from clipcal.recommendation.evidence import Evidence, load
from clipcal.run.trace import Floats
from clipcal.views.figures.course import course
from clipcal.views.html.page import render
from clipcal.views.html.view import view
from clipcal.views.terminal import answers, plainview

VIEWS = Path(__file__).parents[3] / "clipcal" / "views"
RENDERERS = ("terminal", "html", "image", "tensorboard")


def logged(path: Path, norms: Floats, *, every: int = 1, losses: Floats | None = None) -> Evidence:
    extra = [{} if losses is None else {"loss": float(v)} for v in (norms if losses is None else losses)]
    rows = ({"step": every * i, "grad_norm": float(v)} | e for i, (v, e) in enumerate(zip(norms, extra, strict=True)))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load(path)


def usual(n: int) -> Floats:
    return np.exp(np.random.default_rng(0).normal(0.0, 0.2, n))


@pytest.mark.parametrize("renderer", RENDERERS)
def test_no_renderer_imports_another(renderer: str) -> None:
    others = tuple(f"clipcal.views.{name}" for name in RENDERERS if name != renderer)
    for path in sorted((VIEWS / renderer).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith(others)], path.name


@pytest.mark.parametrize("folder", ["figures", "words.py"])
def test_figures_and_words_import_no_renderer(folder: str) -> None:
    place = VIEWS / folder
    for path in [place] if place.is_file() else sorted(place.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not [name for name in RENDERERS if f"clipcal.views.{name}" in text], path.name


def test_a_check_shows_where_the_run_diverges_as_its_words_do(tmp_path: Path) -> None:
    evidence = logged(tmp_path / "log.jsonl", np.concatenate([usual(200), np.exp(np.linspace(0, 20, 30))]))
    found = check(evidence, 1.3)
    (said,) = (
        x for x in plainview.check(found, evidence.trace, evidence.norms) if x.startswith("diverging: from step")
    )
    lines = answers.check(found, course(found.recommendation), width=100, ascii=False)
    assert any(said.replace(":", ",") in line.plain for line in lines)


def test_the_warm_up_ends_at_a_step_of_the_log_on_the_page_too(tmp_path: Path) -> None:
    norms = usual(200)
    norms[:18] *= np.geomspace(30, 2, 18)
    evidence = logged(tmp_path / "log.jsonl", norms, every=10)
    (said,) = (
        line.removeprefix("warm-up: until step ")
        for line in plainview.recommendation(evidence.recommend(), evidence.trace, evidence.norms)
        if line.startswith("warm-up: until step")
    )
    assert int(said.replace(",", "")) % 10 == 0
    assert re.search(rf"warm-up to step {said}\b", render(view(tmp_path / "log.jsonl")))


def test_losses_of_all_sizes_are_shown_without_a_warning(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logged(tmp_path / "log.jsonl", usual(300), losses=10.0 ** rng.uniform(-300, 300, 300))
    assert "isRelative" in render(view(tmp_path / "log.jsonl"))
