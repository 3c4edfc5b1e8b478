"""``clipcal report``: the page holds what the run says, asks nobody for anything, and runs nothing that stands in a run."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Clipcal
from made_runs import falling, make_run, quiet, runaway, spiky, verify_by_hand

from clipcal.views import html as reporting
from clipcal.views.html.page import SCRIPTS

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&amp;</style>"
LAYERS = ("embed.weight", "blocks.0.attn.weight", "blocks.0.attn.bias", f"blocks.1.{HOSTILE}.weight", "head.weight")


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and the texts that people see."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.texts: list[str] = []
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._within = f"{tag}#{dict(attrs).get('id')}"

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within.startswith(("script", "style")):
            self.raw[self._within] = self.raw.get(self._within, "") + data
        else:
            self.texts.append(data)

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw["script#data"])
        return found


@pytest.fixture
def spikes(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "spikes", spiky(), name=HOSTILE, layers=LAYERS, notes=[HOSTILE]).folder


def page(clipcal: Clipcal, folder: Path, *options: str) -> Page:
    answer = clipcal("report", str(folder), *options)
    assert answer.code == 0, answer.stderr
    return Page(Path(answer.stdout.strip()).read_text(encoding="utf-8"))


def numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_the_numbers_are_those_of_the_run(spikes: Path, clipcal: Clipcal) -> None:
    found = page(clipcal, spikes)
    norms = spiky()
    course = found.data["course"]
    np.testing.assert_allclose(numbers(course["norms"]), norms, rtol=1e-6)
    np.testing.assert_allclose(numbers(course["losses"]), falling(norms.size), rtol=1e-6)
    assert course["steps"] == [0.0, 1.0, norms.size]
    assert course["spikes"] == np.flatnonzero(norms > 10).tolist()
    answer = json.loads(clipcal("recommend", str(spikes), "--json").stdout)
    assert course["maxNorm"] == answer["max_norm"]
    assert course["corridor"] == answer["corridor"]
    share = found.data["share"]
    stable = norms[norms < 10]
    for threshold, clipped, scale in zip(share["thresholds"], share["stable"], share["scale"], strict=True):
        assert clipped == pytest.approx(np.mean(stable > threshold), abs=0.01)
        assert scale == pytest.approx(np.mean(np.minimum(1, threshold / stable)), abs=0.01)
    distribution = found.data["distribution"]
    assert sum(distribution["stable"]) + sum(distribution["others"]) + sum(distribution["spikes"]) == norms.size
    assert sum(distribution["spikes"]) == len(course["spikes"])
    heat = found.data["heat"]
    assert heat["names"] == ["embed", "blocks.0.attn", f"blocks.1.{HOSTILE}", "head"]
    cells = np.frombuffer(base64.b64decode(heat["cells"]), np.uint8).reshape(4, -1)
    assert cells.shape[1] == norms.size
    loud = norms > 10
    assert np.median(cells[:, loud]) == pytest.approx(60 + 20 * np.log2(40), abs=12), "40 times the usual"
    assert np.median(cells[:, ~loud]) == pytest.approx(60, abs=4)


def test_people_read_the_answer_and_its_evidence(spikes: Path, clipcal: Clipcal) -> None:
    verify_by_hand(make_run(spikes, spiky(), layers=LAYERS), 3.0)
    found = page(clipcal, spikes)
    answer = json.loads(clipcal("recommend", str(spikes), "--json").stdout)
    text = "\n".join(found.texts)
    assert f"max_norm {answer['max_norm']:g}" in found.texts
    for sentence in (*answer["reasons"], *answer["caveats"]):
        assert sentence in text
    assert f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={answer['max_norm']})" in text
    assert f"gradient_clip_val={answer['max_norm']}" in text, "other frameworks too"
    assert "trained again: holds" in text
    assert "steps: 400" in text, "the spec"
    assert "clipcal profile spec.yaml" in text
    arms = found.data["arms"]
    assert sorted((c["name"], c["seed"]) for c in arms["curves"]) == [
        (name, seed) for name in ("max_norm=3", "unclipped") for seed in range(3)
    ]


def test_nothing_of_a_run_becomes_markup(spikes: Path, clipcal: Clipcal) -> None:
    found = page(clipcal, spikes)
    scripts = [attrs.get("id") or attrs.get("type") or "ours" for tag, attrs in found.elements if tag == "script"]
    assert scripts == ["data", "ours", "ours"]
    assert not [tag for tag, _ in found.elements if tag in ("img", "iframe", "link", "object", "base", "form")]
    assert not [
        name for _, attrs in found.elements for name in attrs if name.startswith("on") or name in ("src", "href")
    ]
    assert HOSTILE in found.texts
    assert any(HOSTILE in text for text in found.texts if text != HOSTILE), "in a sentence"
    policy = next(a["content"] for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize(
    "norms", [np.full(60, 1e-12), np.full(3, 1.0), np.zeros(40), np.full(40, np.nan), quiet(1), runaway()]
)
def test_whatever_the_norms_are(tmp_path: Path, clipcal: Clipcal, norms: np.ndarray) -> None:
    make_run(tmp_path / "run", norms, np.full(norms.size, np.nan))
    found = page(clipcal, tmp_path / "run")
    course, threshold = found.data["course"], clipcal("recommend", tmp_path / "run", "--json").json()["max_norm"]
    assert course["losses"] is None
    np.testing.assert_allclose(numbers(course["norms"]), np.where(norms == 0, np.nan, norms), rtol=1e-6)  # no logarithm
    assert course["maxNorm"] == threshold
    assert ("no threshold" in found.texts) == (threshold is None)
    assert (f"max_norm {threshold or 0:g}" in found.texts) == (threshold is not None)


def test_100_000_steps_stay_small(tmp_path: Path, clipcal: Clipcal) -> None:
    n = 100_000
    folder = make_run(tmp_path / "long", spiky(n), falling(n), layers=[f"blocks.{i}.weight" for i in range(40)]).folder
    page(clipcal, folder, "--quiet")
    assert (folder / "report.html").stat().st_size < 5e6


def test_a_log_has_a_page_too(tmp_path: Path, clipcal: Clipcal) -> None:
    log = tmp_path / "train.jsonl"
    log.write_text("".join(json.dumps({"step": i, "loss": 1.0, "grad_norm": g}) + "\n" for i, g in enumerate(spiky())))
    before = log.read_bytes()
    found = page(clipcal, log)
    assert (tmp_path / "train.jsonl.report.html").exists()
    assert log.read_bytes() == before
    assert len(numbers(found.data["course"]["norms"])) == 400
    clipcal("report", "-").refused("--out")


def test_only_a_page_of_ours_is_written_over(spikes: Path, clipcal: Clipcal, tmp_path: Path) -> None:
    other = tmp_path / "thesis.html"
    other.write_text("<h1>my thesis</h1>")
    clipcal("report", str(spikes), "-o", str(other)).refused("--force", "thesis.html")
    assert other.read_text() == "<h1>my thesis</h1>"
    clipcal("report", str(spikes), "-o", str(other), "--force").ok()
    first = other.read_bytes()
    clipcal("report", str(spikes), "-o", str(other)).ok()
    assert other.read_bytes() == first, "the same page again, to the byte"
    clipcal("report", str(spikes), "-o", str(tmp_path / "nowhere" / "x.html")).refused("nowhere", "no such folder")


def test_a_pipe_is_refused_and_not_waited_for(spikes: Path, clipcal: Clipcal, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.html")
    clipcal("report", str(spikes), "-o", str(tmp_path / "pipe.html")).refused("pipe.html", "is there already")


def test_every_script_is_in_the_page(spikes: Path, clipcal: Clipcal) -> None:
    assets = Path(reporting.__file__).parent / "assets"
    assert {path.name for path in assets.glob("*.js")} == {"uPlot.iife.min.js", *(f"{name}.js" for name in SCRIPTS)}
    page(clipcal, spikes)
    text = (spikes / "report.html").read_text(encoding="utf-8")
    places = [text.index((assets / f"{name}.js").read_text(encoding="utf-8")) for name in SCRIPTS]
    assert places == sorted(places)


def look(page: Path, folder: Path, *options: str) -> tuple[str, str, list[str]]:
    """The page as a browser has built it, what its console said, and everything that was asked of any network."""
    assert BROWSER is not None
    log = folder / "net.json"
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--dump-dom", *options, page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    asked = re.findall(r'"url":"([^"]+)"', log.read_text(errors="replace")) if log.exists() else []
    return (
        done.stdout,
        said,
        [url for url in asked if not url.startswith(("file:", "data:", "chrome", "devtools:", "about:"))],
    )


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("kind", ["spikes", "stable", "diverging", "verified"])
def test_in_a_browser(tmp_path: Path, clipcal: Clipcal, kind: str, dark: bool) -> None:
    norms = {"stable": quiet(), "diverging": runaway()}.get(kind, spiky())
    run = make_run(tmp_path / kind, norms, name=HOSTILE, layers=LAYERS, notes=[HOSTILE])
    if kind == "verified":
        verify_by_hand(run, 3.0)
    page(clipcal, run.folder)
    dom, said, asked = look(run.folder / "report.html", tmp_path, *(["--blink-settings=preferredColorScheme=0"] * dark))
    assert said == ""
    home = [url for url in asked if not re.match(r"https?://[\w.-]*(google|gstatic|googleapis)\.com", url)]
    assert home == [], "only the browser's own calls to its maker"
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", dom, flags=re.DOTALL)
    plots = re.findall(r'<div id="(\w+)" class="plot"[^>]*>(.*?)</figure>', shown, flags=re.DOTALL)
    assert {name for name, _ in plots} >= {"course", "distribution", "share", "heat"} | (
        {"arms"} if kind == "verified" else set()
    )
    for name, inner in plots:
        assert "<canvas" in inner, name
    assert "<title>owned" not in dom
    assert "blocks.1.&lt;script&gt;" in shown, "the layer's name as text, drawn by the script"
