"""A run directory or a log -> everything that its page shows, in numbers and sentences."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from clipcal.errors import InputError
from clipcal.frameworks.snippets import known, snippet_of
from clipcal.frameworks.table import FRAMEWORKS
from clipcal.logs.choice import NO_CHOICE, LogChoice
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.culprits import Culprits
from clipcal.recommendation.evidence import Evidence, load
from clipcal.recommendation.replay import Replayed, replay
from clipcal.run.directory import Run
from clipcal.views.figures.arms import Arms, arms
from clipcal.views.figures.every import Figures, figures


@dataclass(frozen=True, kw_only=True)
class View:
    """``snippets`` are (title, text), the run's own framework first; empty where there is no threshold."""

    title: str
    recommendation: Recommendation
    snippets: tuple[tuple[str, str], ...]
    figures: Figures
    culprits: Culprits | None
    arms: Arms | None
    rules: tuple[Replayed, ...]
    facts: tuple[tuple[str, str], ...]
    spec: str | None
    commands: tuple[str, ...]


def view(path: Path, choice: LogChoice = NO_CHOICE) -> View:
    """Read and compute; raises InputError as ``clipcal recommend`` does."""
    evidence = load(path, choice)
    recommendation = evidence.recommend()
    r, of = recommendation, evidence.run
    drawn = figures(evidence, r, in_use=evidence.in_use)
    return View(
        title=of.info.name if of is not None else path.name,
        recommendation=r,
        snippets=_snippets(r, of, evidence.framework),
        figures=drawn,
        culprits=drawn.culprits,
        arms=arms(of) if of is not None else None,
        rules=replay(r),
        facts=_facts(evidence),
        spec=(of.info.source.text or None) if of is not None else None,
        commands=_commands(evidence, path, choice),
    )


def _snippets(recommendation: Recommendation, run: Run | None, framework: str) -> tuple[tuple[str, str], ...]:
    if recommendation.max_norm is None:
        return ()
    own = known(framework)
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
    facts = [
        ("source", info.source.path or info.source.kind or ""),
        ("changed by options", ", ".join(f"{k} = {v}" for k, v in info.source.overrides.items())),
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


def _commands(evidence: Evidence, path: Path, choice: LogChoice) -> tuple[str, ...]:
    """What to type for the same again."""
    if evidence.run is None:
        return (shlex.join(["clipcal", "recommend", str(path), *choice.options]),)
    command = evidence.run.info.command
    typed = [] if not command else [shlex.join(["clipcal", *map(str, command[1:])])]
    return (*typed, shlex.join(["clipcal", "recommend", str(path)]), shlex.join(["clipcal", "verify", str(path)]))
