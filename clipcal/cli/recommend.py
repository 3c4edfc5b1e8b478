"""``clipcal recommend``: a trace or a log -> a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clipcal.cli import options
from clipcal.cli.answering import finish, print_json, said_no, stop
from clipcal.cli.options import Display
from clipcal.errors import Exit, InputError

if TYPE_CHECKING:
    from clipcal.recommendation.answer import Recommendation
    from clipcal.recommendation.culprits import Culprits
    from clipcal.recommendation.evidence import Evidence
    from clipcal.recommendation.replay import Replayed
    from clipcal.run.directory import Run


@options.flags("source framework compare layers tag run pattern scale plot plain json quiet")
def recommend(
    source: options.RunOrLog,
    framework: options.For = None,
    compare: options.Compare = False,
    layers: options.LayersToo = False,
    scale: options.ScaleTo = None,
    plot: options.Plot = None,
    *,
    within: options.Within,
    display: Display,
) -> None:
    """Read a threshold from a run or any training log, with reasons."""
    with said_no():
        from clipcal.recommendation.evidence import load

        if framework is not None and (compare or layers):
            given = " and ".join(["--compare"] * compare + ["--layers"] * layers)
            raise InputError(
                f"--for prints the snippet alone, so there is no place for {given}. Ask for one or the other."
            )
        others = {"--compare": compare, "--layers": layers, "--plot": plot}
        times = None if scale is None else _moving_to(scale, others)
        options.check_plot(plot)
        evidence = load(source, within)
        recommendation = evidence.recommend()
        transfer: dict[str, Any] | None = None
        if times is not None:
            evidence, recommendation, transfer = _moved_to(evidence, recommendation, times)
        culprits: Culprits | None = None
        replayed: tuple[Replayed, ...] = ()
        if layers:
            from clipcal.recommendation.culprits import culprits as culprits_of

            culprits = culprits_of(evidence, recommendation)
        if compare:
            from clipcal.recommendation.replay import replay

            replayed = replay(recommendation)
        if evidence.run is not None and times is None:
            save(evidence.run, recommendation, display)
        if plot is not None:
            from clipcal.views.image.pictures import draw_recommendation

            draw_recommendation(evidence, recommendation, plot)
            display.note(f"wrote {plot}")
        if display.json:
            asked: dict[str, Any] = {"comparison": replayed} if replayed else {}
            asked |= {"transfer": transfer} if times is not None else {}
            print_json(recommendation.as_dict() | asked | ({"layers": culprits.as_dict()} if culprits else {}))
        elif framework is not None:
            _paste(framework, evidence, recommendation)
        else:
            from clipcal.cli import showing

            showing.show_recommendation(evidence, recommendation, display, moved=transfer is not None)
            if recommendation.max_norm is not None:
                showing.show_snippet(recommendation, evidence, display)
            showing.show_tables(evidence, replayed, culprits, display)
    finish(yes=recommendation.max_norm is not None)


def _moving_to(text: str, others: Mapping[str, object]) -> int:
    """How many times the batch a recommendation is wanted for. Raises InputError beside ``others`` that are given."""
    from clipcal.recommendation.scaling.probed import times_of

    given = [name for name, value in others.items() if value]
    if given:
        raise InputError(
            f"--scale moves the threshold to another batch, and {' and '.join(given)} shows the steps of the profile's own. Ask for one "
            "or the other."
        )
    return times_of(text)


def _moved_to(
    evidence: Evidence, recommendation: Recommendation, times: int
) -> tuple[Evidence, Recommendation, dict[str, Any] | None]:
    """The same for ``times`` the batch, and what it was moved by. Where there is no threshold there is nothing to move."""
    from clipcal.recommendation.scaling.moving import move, named, probe_of

    probed = probe_of(evidence)
    if recommendation.max_norm is None:
        return evidence, recommendation, None
    assert evidence.run is not None
    moved = move(recommendation, probed, times)
    return replace(evidence, run=named(evidence.run, times)), moved.recommendation, moved.as_dict()


def save(run: Run, recommendation: Recommendation, display: Display) -> None:
    """Keep a recommendation in its run, which may lie where nothing can be written."""
    from clipcal.run.jsonfile import write_json

    try:
        write_json(run.recommendation, recommendation.as_dict())
    except InputError as e:
        display.note(f"note: {e}")


def _paste(framework: str, evidence: Evidence, recommendation: Recommendation) -> None:
    from clipcal.frameworks.snippets import snippet_of
    from clipcal.frameworks.table import resolve

    resolve(framework)
    if recommendation.max_norm is None:
        stop(f"no threshold to paste: {recommendation.reasons[0]}", Exit.NO)
    print(snippet_of(framework, recommendation, evidence.run))
