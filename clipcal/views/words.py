"""Answers -> the words that people read: what a thing is called, what a verdict means, the cells of a table. For every renderer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipcal.checking.fitting import in_warm_up_alone
from clipcal.recommendation.culprits import times
from clipcal.recommendation.headline import does, percent

if TYPE_CHECKING:
    from clipcal.checking import Check
    from clipcal.checking.answer import Part
    from clipcal.recommendation.answer import Method, Recommendation
    from clipcal.recommendation.attribution import LayerShare
    from clipcal.recommendation.culprits import Culprits
    from clipcal.recommendation.peaks import Peaks
    from clipcal.recommendation.replay import Replayed
    from clipcal.surveying.row import Row
    from clipcal.surveying.survey import Survey
    from clipcal.verification.answer import ArmResult, Verification

OTHERS = 5
"""Frameworks that are named below a snippet; `--for` with a name that is none lists them all."""
LABELS: dict[Method, str] = {"norm": "max_norm", "value": "clip_value", "per_tensor": "max_norm per tensor"}
"""What the threshold of a method is called."""
SCALED: dict[Method, str] = {"norm": "gradient", "value": "largest element", "per_tensor": "largest tensor"}
"""What the factor of a clipping method is on."""
ANSWERS = {True: "fits", False: "does not fit", "borderline": "is borderline", None: "cannot be told"}
ARMS_HEAD = ("arm", "seed", "final loss", "lost at", "loss spikes", "clipped", "mean scale")
SURVEY_HEAD = (
    "threshold", "in use", "acts on", "takes", "recommended", "verdict", "median", "spikes", "rows", "format", "run", "path",
)  # fmt: skip
_VERDICTS = {
    "spikes": "spikes stand clear of stable training",
    "stable": "no spikes were seen",
    "heavy_tail": "large norms without a gap, so that it is a compromise",
    "diverging": "the run diverges, and it is read from the healthy part before",
    "vanishing": "the gradients vanish; clipping cannot help",
    "clipped": "the norms were recorded after clipping, so none can be read from them",
    "insufficient": "too few usable steps",
}


@dataclass(frozen=True, kw_only=True)
class Headline:
    """``answer`` is the threshold or that there is none, ``verdict`` the word for it, ``facts`` what is known of it as (what, which),
    ``meaning`` what the verdict means, ``source`` where the threshold is from if it was not named in the command."""

    answer: str
    verdict: str
    facts: tuple[tuple[str, str], ...]
    meaning: str
    source: str = ""

    @property
    def fields(self) -> list[str]:
        """What stands in one line with the answer."""
        return [self.verdict, *map(" ".join, self.facts)]

    @property
    def line(self) -> str:
        return "   ".join([self.answer, *self.fields])

    @property
    def below(self) -> str:
        """What stands in the line below."""
        return f"{self.meaning}; the threshold is from {self.source}" if self.source else self.meaning


def number(value: float | None) -> str:
    """Three significant digits, for reading: 2.4, 0.000123, 1.2e-09."""
    return "none" if value is None else f"{value:.3g}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def share_of(part: float | None) -> str:
    """A share in a table: 2.5%, or a dash for a share of nothing."""
    return "-" if part is None else f"{part:.1%}"


def scale(factor: float | None) -> str:
    """The mean factor of clipping in a table."""
    return "-" if factor is None else f"{factor:.3f}"


def between(ends: tuple[float, float]) -> str:
    return f"{number(ends[0])} to {number(ends[1])}"


def printable(text: str, *, ascii: bool = False) -> str:
    """Without control characters: a name in a log must not be able to drive the terminal. ``ascii``: without any other
    character that a terminal of ASCII cannot show."""
    return "".join(c if c.isprintable() and (c.isascii() or not ascii) else "?" for c in text)


def spaced(word: str) -> str:
    """A verdict as it is read: no difference."""
    return word.replace("_", " ")


def other_frameworks(names: Sequence[str]) -> str:
    """Which other frameworks' snippets there are, the first ones by name."""
    few, more = ", ".join(names[:OTHERS]), len(names) - OTHERS
    return f"others: --for {few}{f' and {more} more' * (more > 0)}"


def threshold(r: Recommendation) -> str:
    return "no threshold" if r.max_norm is None else f"{LABELS[r.method]} {r.max_norm:g}"


def headline(r: Recommendation) -> Headline:
    facts: list[tuple[str, str]] = []
    if r.max_norm is not None:
        facts.append(("confidence", r.confidence))
        if r.interval:
            facts.append(("interval", between(r.interval)))
    return Headline(answer=threshold(r), verdict=r.verdict, facts=tuple(facts), meaning=meaning(r))


def meaning(r: Recommendation) -> str:
    """What the threshold does, and what the verdict means: of this answer's own numbers."""
    if r.max_norm is None:
        return _VERDICTS[r.verdict]
    return f"{does(r)}; {_VERDICTS[r.verdict]}"


def check_headline(c: Check) -> Headline:
    """Answer and facts speak of the steps that the threshold is judged by: the warm-up is over."""
    facts = []
    share, over, left = c.acts.stable, "stable steps", c.acts.stable_scale
    if share is None:
        share, over, left = c.acts.share, "steps", c.mean_scale
    if share is not None and c.verdict is not None:
        facts.append(("acts on", f"{percent(share)} of the {over}"))
    if left is not None and share:
        facts.append(("leaves", f"{left:.1%} of the learning rate"))
    return Headline(
        answer=f"{LABELS[c.recommendation.method]} {c.max_norm:g} {ANSWERS[c.fits]}",
        verdict=c.verdict or "unknown",
        facts=tuple(facts),
        meaning=check_meaning(c),
        source="" if c.max_norm_from == "--max-norm" else c.max_norm_from,
    )


def check_meaning(c: Check) -> str:
    """What the threshold is to this training."""
    acts = c.acts
    over = "steps" if acts.stable is None else "stable steps"
    if c.verdict is None:
        return "the norms do not tell how it acts"
    if c.verdict != "guard":
        often = f"acts on half of the {over} or more"
        taken = (
            "" if acts.stable_scale is None else f", and takes {percent(1 - acts.stable_scale)} of the learning rate"
        )
        return {"inactive": "never acts", "limiter": f"acts often{taken}", "brake": f"{often}{taken}"}[c.verdict]
    if acts.spikes:
        return f"acts on spikes, and {'on few of the stable steps' if acts.stable else 'leaves stable steps alone'}"
    if acts.stable is None or acts.stable > 0:
        return f"acts on few of the {over}"
    where = "in the warm-up" if in_warm_up_alone(acts, c.recommendation) else "outside stable training"
    return f"acts {where} alone"


def quarter_cells(c: Check, q: Part) -> tuple[str, str, str, str, str]:
    """Of a quarter or of the warm-up: steps, median norm, share clipped, mean scale, verdict. Where the norms do not tell how the threshold
    acts, those of a quarter do not tell either."""
    return (
        f"{q.first_step:,} to {q.last_step:,}",
        "-" if q.median is None else number(q.median),
        share_of(None if c.verdict is None else q.clipped),
        scale(q.mean_scale),
        "warm-up" if q is c.warm_up else (c.verdict and q.verdict) or "-",
    )


def lost_runs(v: Verification) -> str:
    """In place of a difference of final losses, where runs that would be compared have none."""

    def said(arms: Sequence[ArmResult], kind: str) -> str:
        lost = sum(a.diverged_at is not None for a in arms)
        if len(arms) == 1:
            return f"the {kind} run was {'' if lost else 'not '}lost"
        if not lost:
            return f"no {kind} one"
        return f"{lost} of {len(arms)} {kind} runs {'was' if lost == 1 else 'were'} lost"

    of = {"unclipped": [a for a in v.arms if a.name == "unclipped"]}
    of["clipped"] = [
        a for a in v.arms if a.max_norm == v.max_norm and a.name.startswith("max_norm") and "lr=" not in a.name
    ]
    first, second = sorted(of, key=lambda kind: all(a.diverged_at is None for a in of[kind]))
    return f"{said(of[first], first)}, {said(of[second], second)}"


def arm_cells(a: ArmResult) -> tuple[str, ...]:
    """Under ``ARMS_HEAD``."""
    is_lost, clips = a.diverged_at is not None, a.max_norm is not None
    ends = ("lost", f"step {a.diverged_at}") if is_lost else (f"{a.final_loss:.4g}", "-")
    clipped = (a.clip_fraction, a.mean_scale) if clips else (None, None)
    return (a.name, str(a.seed), *ends, str(a.loss_spikes), share_of(clipped[0]), scale(clipped[1]))


def rule_cells(r: Replayed) -> tuple[str, str, str, str, str]:
    """Of a rule that was replayed: threshold, shares of the steps and of the spikes that it clips, mean scale, verdict."""
    return (number(r.threshold), share_of(r.clipped), share_of(r.clipped_spikes), scale(r.mean_scale), r.verdict)


def rules_title(first: Replayed) -> str:
    """What the rules are judged by."""
    if first.over == "finite":
        return f"Compared on {count(first.num_steps, 'step')} with a finite norm"
    spikes = f"and {count(first.num_spikes, 'spike')}" if first.num_spikes else "(there are no spikes)"
    return f"Compared on {count(first.num_steps, 'stable step')} {spikes}"


def layer_cells(layer: LayerShare) -> tuple[str, str, str, str]:
    """Of a layer: its shares in the large steps and in the others, its usual norm, what it reaches."""
    return (f"{layer.share:.1%}", f"{layer.stable_share:.1%}", number(layer.usual), times(layer.rise))


def layers_title(c: Culprits) -> str:
    """Which steps are looked at, and against which."""
    stable = f"against {count(c.num_stable, 'stable step')}"
    others = f"against the other {c.num_stable:,}"
    titles: dict[Peaks, str] = {
        "spikes": f"Layers at the {count(c.num_peaks, 'spike')}, {stable}",
        "tail": f"Layers at the {count(c.num_peaks, 'step')} far above the rest, {others}",
        "runaway": f"Layers in the {count(c.num_peaks, 'finite step')} of the divergence, {stable}",
        "largest": f"No spikes: layers at the largest 1% of the steps ({c.num_peaks:,}), {others}",
    }
    return titles[c.peaks]


def survey_cells(row: Row) -> tuple[str, ...]:
    """Of a log or run that was read, under ``SURVEY_HEAD``."""
    return (
        _survey_state(row),
        _in_use(row),
        "-" if row.acts is None else percent(row.acts),
        "-" if row.takes is None else percent(row.takes),
        "none" if row.max_norm is None else f"{row.max_norm:g}{_by(row)}",
        spaced(row.verdict or "-"),
        "-" if row.median is None else number(row.median),
        "-" if row.spikes is None else f"{row.spikes:,}",
        "-" if row.rows is None else f"{row.rows:,}",
        row.format or "-",
        row.name or "-",
        row.path,
    )


def _survey_state(row: Row) -> str:
    return row.state or "unreadable"


def _in_use(row: Row) -> str:
    return "-" if row.in_use is None or row.state == "off" else f"{row.in_use:g}"


def _by(row: Row) -> str:
    return {"value": " by value", "per_tensor": " per tensor"}.get(row.method or "", "")


def survey_counts(found: Survey) -> str:
    """How many rows there are of each kind, in one line."""
    from clipcal.surveying.row import GROUPS

    num = len(found.rows)
    if not num:
        return "no log and no run"
    said = ", ".join(f"{n:,} {GROUPS[group][n != 1]}" for group, n in found.counts.items() if n)
    return f"{count(num, 'log or run') if num == 1 else f'{num:,} logs and runs'}: {said}"


def survey_remarks(found: Survey) -> list[str]:
    """What was passed over, and where the search ended early."""
    passed = found.passed_over
    said = [
        (passed["other"], "file that is no log by its ending", "files that are no logs by their ending"),
        (passed["content"], "file whose content is no training log", "files whose content is no training log"),
        (passed["older"], "older checkpoint of the same training", "older checkpoints of the same trainings"),
        (passed["links"], "link", "links"),
        (passed["folders"], "folder", "folders"),
    ]
    parts = [f"{n:,} {one if n == 1 else many}" for n, one, many in said if n]
    return [*([f"Passed over: {', '.join(parts)}."] if parts else []), *found.notes]
