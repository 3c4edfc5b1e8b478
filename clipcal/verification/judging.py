"""Arms' traces -> Verification: did the threshold help, do nothing, or cost something? Checks in a table, the first that
speaks decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipcal.arms.pool import Arm
from clipcal.run.trace import Trace
from clipcal.stats.losses import diverged_at, final_loss, initial_loss, num_spikes, scatter
from clipcal.verification.answer import ArmResult, Comparison, Helped, Judgement, Verification

MARGIN_OF_PROGRESS, MARGIN_OF_LOSS = 0.02, 0.1
"""A difference of the final loss below either share, of the progress made since the start or of the loss that is left, is
none that anybody would act on. The second counts where a bad initialisation makes the first meaningless."""

ALWAYS = 0.9
"""The share of clipped steps from which a threshold is a learning rate by another name."""

# two-sided 90% quantiles of Student's t by degrees of freedom; beyond 10 the normal one is within 6%
_T90 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the checks look at: results by role, in the order of the seeds."""

    max_norm: float
    unclipped: Sequence[ArmResult]
    clipped: Sequence[ArmResult]
    smaller_rate: Sequence[ArmResult]
    together: Sequence[ArmResult]
    comparison: Comparison
    start: float
    progress: float

    @property
    def seeds(self) -> int:
        return len(self.clipped)

    def learns(self, arms: Sequence[ArmResult]) -> bool:
        """Whether the loss of these arms falls by a tenth of the progress that the best one makes."""
        return bool(np.mean([self.start - a.final_loss for a in arms]) >= 0.1 * self.progress)

    @property
    def margin(self) -> float:
        """The smallest difference of the final loss that counts."""
        return margin_of([capped(a, self.start) for a in self.unclipped], self.progress)


def results_of(arms: Sequence[tuple[Arm, Trace]]) -> tuple[list[ArmResult], float, float]:
    """Each arm's outcome, measured by one measure for all; with the level that training starts from and the progress that
    the best arm made."""
    start = float(np.median([initial_loss(t.loss) for _, t in arms]))
    finals = [f for f in (final_loss(t.loss) for _, t in arms) if np.isfinite(f)]
    floor = min([*finals, start])
    calm = [s for s in (scatter(t.loss) for _, t in arms) if s > 0]
    spread = float(min(calm, default=0.0))
    progress = start - floor if np.isfinite(start) else 0.0
    results = []
    for arm, trace in arms:
        lost = diverged_at(trace.loss, floor=floor)
        scale = np.where(np.isfinite(trace.scale), trace.scale, 1.0)
        results.append(
            ArmResult(
                name=arm.name,
                max_norm=arm.max_norm,
                seed=arm.seed,
                steps=len(trace),
                final_loss=final_loss(trace.loss),
                diverged_at=None if lost is None else int(trace.step[min(lost, len(trace) - 1)]),
                loss_spikes=num_spikes(trace.loss, spread=spread, progress=progress),
                clip_fraction=float(np.mean(scale < 1.0)) if len(scale) else 0.0,
                mean_scale=float(np.mean(scale)) if len(scale) else 1.0,
            )
        )
    return results, start, progress


def compare(
    clipped: Sequence[ArmResult], unclipped: Sequence[ArmResult], *, start: float, traces: Sequence[tuple[Trace, Trace]]
) -> Comparison:
    """The paired difference of the final loss and its 90% interval: Student's t over the seeds, or, for a single seed, a
    block bootstrap over the paired steps of the last part. ``traces`` are (clipped, unclipped) by seed."""
    d = np.array([capped(c, start) - capped(u, start) for c, u in zip(clipped, unclipped, strict=True)])
    lost = [(c.diverged_at is not None, u.diverged_at is not None) for c, u in zip(clipped, unclipped, strict=True)]
    better = sum(u if c != u else not c and x < 0 for (c, u), x in zip(lost, d.tolist(), strict=True))
    if any(a.diverged_at is not None or not np.isfinite(a.final_loss) for a in (*clipped, *unclipped)):
        return Comparison(loss_difference=None, interval=None, seeds=len(clipped), better=better)
    mean = float(np.mean(d))
    if len(d) > 1:
        t = _T90[len(d) - 2] if len(d) - 2 < len(_T90) else 1.75
        half = t * float(np.std(d, ddof=1)) / np.sqrt(len(d))
    else:
        half = _within_run(*traces[0])
    interval = (mean - half, mean + half) if np.isfinite(half) else None
    return Comparison(loss_difference=mean, interval=interval, seeds=len(d), better=better)


def margin_of(unclipped: Sequence[float], progress: float) -> float:
    """The smallest difference of the final loss that counts, from those of the unclipped arms."""
    return min(MARGIN_OF_PROGRESS * progress, MARGIN_OF_LOSS * float(np.mean(np.abs(unclipped))))


def capped(arm: ArmResult, start: float) -> float:
    """The final loss, and the loss at the start for an arm that is lost: it has learned nothing."""
    if arm.diverged_at is not None or not np.isfinite(arm.final_loss):
        return start
    return arm.final_loss


def _within_run(clipped: Trace, unclipped: Trace) -> float:
    """Half the width of a 90% interval for the mean paired difference over the last part of one run."""
    n = min(len(clipped), len(unclipped))
    d = (clipped.loss[:n] - unclipped.loss[:n])[-max(n // 5, min(10, n)) :]
    d = d[np.isfinite(d)]
    if len(d) < 4:
        return float("inf")
    block = max(2, round(len(d) ** (1 / 2)))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(d) - block + 1, size=(500, -(-len(d) // block)))
    means = d[(starts[..., None] + np.arange(block)).reshape(500, -1)[:, : len(d)]].mean(axis=1)
    low, high = np.quantile(means, [0.05, 0.95])
    return float(high - low) / 2


Found = tuple[Judgement, str, str]
"""The verdict, the code of its reason, and the reason."""
Check = Callable[[Evidence], Found | None]


def diverges_all_the_same(e: Evidence) -> Found | None:
    lost = [a for a in e.clipped if a.diverged_at is not None]
    if not lost:
        return None
    where = ", ".join(f"step {a.diverged_at} (seed {a.seed})" for a in lost)
    return "fails", "lost_clipped", f"With max_norm {e.max_norm:g} training is lost all the same, from {where}."


def learns_nothing(e: Evidence) -> Found | None:
    if not any(a.diverged_at is not None for a in e.unclipped) or e.progress <= 0 or not e.smaller_rate:
        return None
    if e.learns(e.clipped):
        return None
    return (
        "fails",
        "learns_nothing",
        (
            f"With max_norm {e.max_norm:g} the loss does not run away, but it does not fall either ({e.start:.3g} at the start, "
            f"{np.mean([a.final_loss for a in e.clipped]):.3g} at the end)."
        ),
    )


def keeps_from_diverging(e: Evidence) -> Found | None:
    lost = [a for a in e.unclipped if a.diverged_at is not None]
    if not lost:
        return None
    first = f"{'the first ' * (len(lost) > 1)}at step {min(a.diverged_at or 0 for a in lost)}"
    return (
        "holds",
        "lost_unclipped",
        (
            f"Unclipped, {_lost(len(lost), e.seeds)} ({first}); with max_norm {e.max_norm:g} {'it is not' if e.seeds == 1 else 'none is'}, "
            f"and the loss ends at {np.mean([a.final_loss for a in e.clipped]):.3g}."
        ),
    )


def never_acted(e: Evidence) -> Found | None:
    if any(a.clip_fraction > 0 for a in e.clipped):
        return None
    of = "" if e.seeds == 1 else f" of {e.seeds} runs"
    return (
        "no_difference",
        "no_step_clipped",
        f"No step{of} was clipped: max_norm {e.max_norm:g} is a safety net that was not needed.",
    )


def ends_apart(e: Evidence) -> Found | None:
    c = e.comparison
    if c.loss_difference is None or c.interval is None or abs(c.loss_difference) <= e.margin:
        return None
    if c.interval[1] < 0:
        return (
            "holds",
            "ends_lower",
            f"The final loss is lower by {-c.loss_difference:.3g} with clipping ({_interval(c)}).",
        )
    if c.interval[0] <= 0:
        return None
    return (
        "costs",
        "ends_higher",
        (
            f"The final loss is higher by {c.loss_difference:.3g} with clipping ({_interval(c)}), and unclipped training was stable: "
            f"max_norm {e.max_norm:g} slows it down."
        ),
    )


def removes_spikes(e: Evidence) -> Found | None:
    before, after = (sum(a.loss_spikes for a in arms) for arms in (e.unclipped, e.clipped))
    # Poisson counts: a difference of twice its own standard error, and at least half of them gone
    if before == 0 or after > before / 2 or before - after < 2 * np.sqrt(before + after):
        return None
    again = "once" if after == 1 else f"{after} times"
    return (
        "holds",
        "fewer_jumps",
        (f"The loss jumped {before} times without clipping and {again} with it, at no cost in the final loss."),
    )


def no_difference(e: Evidence) -> Found:
    """Only an interval that lies within the margin says that there is no difference: a wide one says that nobody knows."""
    c = e.comparison
    if c.loss_difference is None:
        return "undecided", "no_final_loss", "Some runs have no final loss to compare, though none of them is lost."
    text = f"The final loss differs by {c.loss_difference:+.3g} ({_interval(c)})"
    if c.interval is not None and max(-c.interval[0], c.interval[1]) <= e.margin:
        return (
            "no_difference",
            "ends_alike",
            f"{text}, which is nothing to act on: less than {e.margin:.2g} matters to nobody.",
        )
    more = f"More of them may (--seeds {2 * max(e.seeds, 2)})."
    if e.seeds == 1:
        return "undecided", "one_seed", f"{text}: one seed does not tell more than {e.margin:.2g} from chance. {more}"
    return "undecided", "seeds_disagree", f"{text}: the seeds do not agree well enough to tell. {more}"


CHECKS: tuple[Check, ...] = (
    diverges_all_the_same,
    learns_nothing,
    keeps_from_diverging,
    never_acted,
    ends_apart,
    removes_spikes,
    no_difference,
)


def judge(max_norm: float, arms: Sequence[tuple[Arm, Trace]], *, roles: dict[str, str]) -> Verification:
    """The verdict on ``max_norm`` from all arms. ``roles`` maps "unclipped", "clipped", "smaller_rate" and "together" to the
    names of their arms; other arms are reported after them."""
    results, start, progress = results_of(arms)
    traces = {(a.name, a.seed): t for a, t in arms}

    def by_role(role: str) -> list[ArmResult]:
        return sorted((r for r in results if r.name == roles.get(role)), key=lambda r: r.seed)

    unclipped, clipped = by_role("unclipped"), by_role("clipped")
    pairs = [(traces[c.name, c.seed], traces[u.name, u.seed]) for c, u in zip(clipped, unclipped, strict=True)]
    evidence = Evidence(
        max_norm=max_norm,
        unclipped=unclipped,
        clipped=clipped,
        smaller_rate=by_role("smaller_rate"),
        together=by_role("together"),
        comparison=compare(clipped, unclipped, start=start, traces=pairs),
        start=start,
        progress=progress,
    )
    verdict, code, reason = next(answer for check in CHECKS if (answer := check(evidence)) is not None)
    said = [(code, reason)]
    helped = what_helped(evidence)
    as_well = _rate_does_as_well(evidence) if helped == "both" else None
    if as_well:
        said.append(("smaller_rate_as_well", as_well))
    fraction, scale = (float(np.mean([getattr(a, k) for a in clipped])) for k in ("clip_fraction", "mean_scale"))
    if fraction:
        often = " That is a second learning rate more than a guard." if fraction > 0.5 else ""
        said.append(
            (
                "clips",
                f"It clipped {fraction:.1%} of the steps, and left {scale:.1%} of the gradient's length on average.{often}",
            )
        )
    if helped and not as_well:
        said.append((f"helped_{helped}", _HELPED[helped]))
    if helped == "both" and fraction > ALWAYS and not as_well:
        said.append(
            (
                "acts_always",
                "The threshold acts on nearly every step, as a lower learning rate does: lower the rate, about 10x.",
            )
        )
    others = [n for n in dict.fromkeys(r.name for r in results) if n not in roles.values()]
    said += [("beside", _beside(n, [r for r in results if r.name == n], evidence)) for n in others]
    return Verification(
        verdict=verdict,
        max_norm=max_norm,
        arms=tuple(results),
        comparison=evidence.comparison,
        reasons=tuple(text for _, text in said),
        codes=tuple(code for code, _ in said),
        helped=helped,
    )


def _rate_does_as_well(e: Evidence) -> str | None:
    """The advice where a tenth of the learning rate ends as low as clipping does."""
    ours, theirs = (float(np.mean([a.final_loss for a in arms])) for arms in (e.clipped, e.smaller_rate))
    if not theirs <= ours + e.margin:
        return None
    return (
        f"A tenth of the learning rate, without clipping, ends as well ({theirs:.4g}, against {ours:.4g} with max_norm {e.max_norm:g}): lower "
        "the learning rate, and clipping is not needed."
    )


def what_helped(e: Evidence) -> Helped | None:
    """Which of clipping and a tenth of the learning rate keeps training from being lost, or makes it learn."""
    if not e.smaller_rate:
        return None

    def cures(arms: Sequence[ArmResult]) -> bool:
        return bool(arms) and all(a.diverged_at is None for a in arms) and e.progress > 0 and e.learns(arms)

    clipping, rate = cures(e.clipped), cures(e.smaller_rate)
    if clipping and rate:
        return "both"
    if clipping or rate:
        return "clipping" if clipping else "smaller_rate"
    return "together" if cures(e.together) else "neither"


_HELPED: dict[Helped, str] = {
    "clipping": "A tenth of the learning rate, without clipping, does not help: clipping does.",
    "smaller_rate": "A tenth of the learning rate helps where clipping does not: the learning rate is the likely cause; lower it.",
    "both": "A tenth of the learning rate, without clipping, keeps training stable too.",
    "together": "Neither clipping nor a tenth of the learning rate helps by itself; both together do.",
    "neither": (
        "A tenth of the learning rate does not help either, so the cause is elsewhere. Look at the data (NaN, outliers, labels), "
        "the initialisation, an overflow in low precision, or a log or division by zero in the loss."
    ),
}


def _beside(name: str, arms: Sequence[ArmResult], e: Evidence) -> str:
    lost = sum(a.diverged_at is not None for a in arms)
    if lost:
        return f"{name}: {_lost(lost, len(arms))}."
    seeds = {a.seed for a in arms}
    ours = np.mean([capped(a, e.start) for a in e.clipped if a.seed in seeds])
    theirs = np.mean([a.final_loss for a in arms])
    on = "" if len(seeds) == e.seeds else f", on {len(seeds)} seed{'s' * (len(seeds) != 1)}"
    return f"{name}: final loss {theirs:.4g}, against {ours:.4g} with max_norm {e.max_norm:g}{on}."


def _lost(num: int, total: int) -> str:
    return "the run is lost" if total == 1 else f"{num} of {total} runs {'is' if num == 1 else 'are'} lost"


def _interval(c: Comparison) -> str:
    how = f"{c.seeds} seeds" if c.seeds > 1 else "one seed"
    if c.interval is None:
        return f"{how}, and too few steps for an interval"
    return f"about 90% interval {c.interval[0]:+.3g} to {c.interval[1]:+.3g}, {how}"
