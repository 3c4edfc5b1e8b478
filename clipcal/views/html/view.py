"""A run directory or a log -> everything that its page shows, in numbers and sentences."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

from clipcal.errors import InputError
from clipcal.frameworks.snippets import framework_of, snippet_of
from clipcal.frameworks.table import FRAMEWORKS
from clipcal.recommendation.answer import Choice, Recommendation
from clipcal.recommendation.culprits import Culprits, culprits
from clipcal.recommendation.evidence import Evidence, load, read_choice
from clipcal.recommendation.replay import Replayed, replay
from clipcal.run.directory import Run
from clipcal.views.figures.arms import Arms, arms
from clipcal.views.figures.course import Course, course
from clipcal.views.figures.distribution import Distribution, distribution
from clipcal.views.figures.harm import LossAfter, loss_after
from clipcal.views.figures.heat import Heat, heat
from clipcal.views.figures.share import ClippedShare, clipped_share


@dataclass(frozen=True, kw_only=True)
class View:
    """``snippets`` are (title, text), the run's own framework first; empty where there is no threshold. A figure is None where there
    is nothing to draw."""

    title: str
    evidence: Evidence
    recommendation: Recommendation
    choice: Choice | None
    snippets: tuple[tuple[str, str], ...]
    course: Course
    distribution: Distribution | None
    share: ClippedShare | None
    harm: LossAfter | None
    heat: Heat | None
    culprits: Culprits | None
    arms: Arms | None
    rules: tuple[Replayed, ...]
    facts: tuple[tuple[str, str], ...]
    spec: str | None
    commands: tuple[str, ...]


def view(path: Path, *, tag: str | None = None, run: int | None = None, pattern: str | None = None) -> View:
    """Read and compute; raises InputError as ``clipcal recommend`` does."""
    evidence = load(path, tag=tag, run=run, pattern=pattern)
    recommendation = evidence.recommend()
    r, of = recommendation, evidence.run
    in_use = evidence.in_use if evidence.in_use is not None and math.isfinite(evidence.in_use) else None
    try:
        found = culprits(evidence, r) if of is not None else None
    except InputError:
        found = None
    return View(
        title=of.info.name if of is not None else path.name,
        evidence=evidence,
        recommendation=r,
        choice=read_choice(of) if of is not None else None,
        snippets=_snippets(r, of),
        course=course(evidence, r, in_use=in_use),
        distribution=distribution(evidence.norms, r, in_use=in_use),
        share=clipped_share(evidence.norms, r, in_use=in_use),
        harm=loss_after(evidence, r),
        heat=heat(evidence, r),
        culprits=found,
        arms=arms(of) if of is not None else None,
        rules=replay(evidence.norms, r),
        facts=_facts(evidence),
        spec=str(of.info.source["text"]) if of is not None and of.info.source.get("text") else None,
        commands=_commands(evidence, path, tag, run, pattern),
    )


def _snippets(recommendation: Recommendation, run: Run | None) -> tuple[tuple[str, str], ...]:
    if recommendation.max_norm is None:
        return ()
    own = framework_of(run)
    found = []
    for name in (own, *(name for name in FRAMEWORKS if name != own)):
        try:
            found.append((FRAMEWORKS[name].title, snippet_of(name, recommendation, run)))
        except InputError:  # the threshold cannot be said in its words
            continue
    return tuple(found)


def _facts(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """Where the numbers come from, for somebody who wants them again."""
    if evidence.run is None:
        return (("log", evidence.source), ("steps read", f"{len(evidence.norms):,}"))
    info = evidence.run.info
    s = info.source
    overrides = s.get("overrides") if isinstance(s.get("overrides"), dict) else {}
    facts = [
        ("source", str(s.get("path", "")) or str(s.get("kind", ""))),
        ("changed by options", ", ".join(f"{k} = {v}" for k, v in (overrides or {}).items())),
        ("steps", f"{len(evidence.norms):,} of {info.steps:,}" if info.steps else f"{len(evidence.norms):,}"),
        ("ended", info.status + (f": {info.reason}" if info.reason else "")),
        ("seed", ", ".join(map(str, info.seeds))),
        ("parameters", f"{info.num_parameters:,}" if info.num_parameters else ""),
        ("device", info.device),
        ("threads", str(info.threads)),
        ("ranks", str(info.world_size)),
        ("versions", ", ".join(f"{k} {v}" for k, v in info.versions.items())),
        ("machine", info.platform),
        ("started", info.started),
        ("finished", info.finished or ""),
        ("fingerprint", info.fingerprint),
    ]
    return tuple((name, value) for name, value in facts if value)


def _commands(evidence: Evidence, path: Path, tag: str | None, run: int | None, pattern: str | None) -> tuple[str, ...]:
    """What to type for the same again."""
    if evidence.run is None:
        options = [*(["--tag", tag] if tag else []), *(["--run", str(run)] if run else [])]
        options += ["--pattern", pattern] if pattern else []
        return (shlex.join(["clipcal", "recommend", str(path), *options]),)
    command = evidence.run.info.command
    typed = [] if not command else [shlex.join(["clipcal", *map(str, command[1:])])]
    return (*typed, shlex.join(["clipcal", "recommend", str(path)]), shlex.join(["clipcal", "verify", str(path)]))
