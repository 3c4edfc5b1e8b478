"""The ``clipcal`` command: parse, call, print. What needs torch is imported by the commands that train."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from clipcal._version import __version__
from clipcal.errors import ClipcalError, InputError, UserCodeError

if TYPE_CHECKING:
    from clipcal.choosing import Outcome
    from clipcal.culprits import Culprits
    from clipcal.evidence import Evidence
    from clipcal.recommendation import Recommendation
    from clipcal.replay import Replayed
    from clipcal.rundir import Run
    from clipcal.spec import Spec
    from clipcal.verification import Verification

NO, INTERRUPTED = 3, 130

app = typer.Typer(
    name="clipcal",
    help="Calibrates the gradient-clipping threshold of a PyTorch training run from the run's own gradient norms.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # with rich, `--help` alone takes 1.8 times as long as importing typer and rich
    context_settings={"help_option_names": ["-h", "--help"]},
)

Source = Annotated[
    Path,
    typer.Argument(metavar="SPEC", help="What to train: a YAML spec. `clipcal init` writes one.", show_default=False),
]
RunArg = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)]
RunOrLog = Annotated[Path, typer.Argument(metavar="RUN|LOG", help="A run directory, or a trace.", show_default=False)]
Steps = Annotated[int | None, typer.Option("--steps", "-n", help="Optimizer steps to train.  [default: the spec's]")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the first run.  [default: the spec's]")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="How many seeds to train each arm with.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: the spec's]")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run directory.  [default: runs/<name>]", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads per run.  [default: half the cores]")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Arms trained side by side.  [default: cores / threads]")
]
Others = Annotated[
    list[float] | None,
    typer.Option("--max-norm", help="Another threshold to train beside; may be repeated.", show_default=False),
]
For = Annotated[
    str | None, typer.Option("--for", help="Print only the snippet for this framework.", show_default=False)
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Also show what the rules that others use would have clipped.")
]
LayersToo = Annotated[bool, typer.Option("--layers", help="Also show which layers make the spikes.")]


def main() -> None:
    """The console script. Everything that clipcal says no with ends here, as a paragraph and an exit code."""
    try:
        app()
    except BrokenPipeError:  # `clipcal recommend RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)


@contextlib.contextmanager
def _said_no() -> Iterator[None]:
    try:
        yield
    except UserCodeError as e:
        if e.user_traceback:
            print(e.user_traceback.rstrip() + "\n", file=sys.stderr)
        _stop(f"error: {e}", e.exit_code)
    except ClipcalError as e:
        _stop(f"error: {e}", e.exit_code)
    except KeyboardInterrupt:
        _stop("interrupted; what was recorded is kept", INTERRUPTED)


def _stop(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(code)


def _version(asked: bool) -> None:
    if asked:
        print(f"clipcal {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def calibrate(
    source: Source,
    steps: Steps = None,
    seed: Seed = None,
    seeds: Seeds = 3,
    device: Device = None,
    out: Out = None,
    other: Others = None,
    threads: Threads = None,
    jobs: Jobs = None,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Profile, recommend, and let training choose among the candidates.

    Candidates are trained from the same seeds, and on one more seed where it stays open which is best. Ends with a threshold, its evidence, and the snippet to paste. Exit code 3 where the answer is no.
    """
    with _said_no():
        spec, folder = _spec(source, out, steps=steps, seed=seed, device=device)
        from clipcal.arms import warm_up
        from clipcal.runners.spec import pick_device

        warm_up(str(pick_device(spec.fields.device)))
        run = _profile(spec, folder, force=force, resume=False, threads=threads, quiet=quiet)
        evidence, recommendation = _recommend(run.folder)
        _save(run, recommendation, quiet=quiet)
        if not json:
            _show_recommendation(evidence, recommendation)
        outcome = None
        if recommendation.max_norm is not None:
            outcome = _choose(run, recommendation, other or [], seeds, jobs, quiet=quiet, spaced=not json)
            evidence, recommendation = _recommend(run.folder)
            _save(run, recommendation, quiet=quiet)
        verification = outcome.verification if outcome else None
        if json:
            from clipcal.jsonfile import plain

            _print_json(
                {
                    "schema": "clipcal.calibration/1",
                    "run": str(run.folder),
                    "max_norm": recommendation.max_norm,
                    "choice": plain(outcome.choice) if outcome else None,
                    "recommendation": recommendation.as_dict(),
                    "verification": verification.as_dict() if verification else None,
                }
            )
        elif outcome is not None:
            _show_choice(run, outcome)
            _show_verification(run, outcome.verification)
            _show_snippet(recommendation, run)
    holds = verification is not None and verification.verdict in ("holds", "no_difference")
    raise typer.Exit(0 if holds else NO)


@app.command()
def profile(
    source: Source,
    steps: Steps = None,
    seed: Seed = None,
    device: Device = None,
    out: Out = None,
    threads: Threads = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut short, or make it longer.")
    ] = False,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Record the gradient norms of N unclipped steps.

    Trains with clipping off, for as many optimizer steps as the spec or --steps says, into a run directory.
    """
    with _said_no():
        spec, folder = _spec(source, out, steps=steps, seed=seed, device=device)
        run = _profile(spec, folder, force=force, resume=resume, threads=threads, quiet=quiet)
        from clipcal.profiling import summary

        answer = summary(run)
        if json:
            _print_json(answer)
        else:
            print(
                f"{run.folder}: {answer['steps']} steps, grad norm median {_short(answer['median'])}, "
                f"largest {_short(answer['largest'])} at step {answer['largest_step']}"
            )
            if not quiet:
                print(f"next: clipcal recommend {run.folder}", file=sys.stderr)


@app.command()
def recommend(
    source: RunOrLog,
    framework: For = None,
    compare: Compare = False,
    layers: LayersToo = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a threshold from a trace, with its reasons."""
    with _said_no():
        if framework is not None and (compare or layers):
            given = " and ".join(["--compare"] * compare + ["--layers"] * layers)
            raise InputError(
                f"--for prints the snippet alone, so there is no place for {given}. Ask for one or the other."
            )
        evidence, recommendation = _recommend(source)
        replayed, culprits = _compared(evidence, recommendation, compare=compare, layers=layers)
        if evidence.run is not None:
            _save(evidence.run, recommendation, quiet=quiet)
        if json:
            asked = {"comparison": replayed} if replayed else {}
            _print_json(recommendation.as_dict() | asked | ({"layers": culprits.as_dict()} if culprits else {}))
        elif framework is not None:
            _show_one_snippet(framework, evidence, recommendation)
        else:
            _show_recommendation(evidence, recommendation)
            if recommendation.max_norm is not None:
                _show_snippet(recommendation, evidence.run)
            _show_tables(evidence, replayed, culprits)
    raise typer.Exit(0 if recommendation.max_norm is not None else NO)


@app.command()
def verify(
    run: RunArg,
    other: Others = None,
    seeds: Seeds = 3,
    steps: Steps = None,
    jobs: Jobs = None,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Train again, clipped beside unclipped.

    From the same seeds, weights and batches as the profile. Where training is lost, a tenth of the learning rate is tried
    too. Exit code 3 where clipping costs something or training is lost all the same.
    """
    with _said_no():
        evidence, recommendation = _recommend(run)
        if evidence.run is None:
            raise InputError(f"{run}: is a trace by itself, which cannot be trained again. Name a run directory.")
        _save(evidence.run, recommendation, quiet=quiet)
        verification = _verify(
            evidence.run, recommendation, other or [], seeds, steps, jobs, force=force, quiet=quiet, spaced=False
        )
        if json:
            _print_json(verification.as_dict())
        else:
            _show_verification(evidence.run, verification)
    raise typer.Exit(0 if verification.verdict in ("holds", "no_difference") else NO)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("clipcal.yaml"),
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the spec's JSON Schema, for editors, and write nothing.")
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a commented starter spec."""
    with _said_no():
        if schema:
            from clipcal.spec import json_schema

            _print_json(json_schema())
            return
        from clipcal.starter import STARTER

        try:
            with path.open("w" if force else "x", encoding="utf-8") as f:
                f.write(STARTER)
        except FileExistsError:
            raise InputError(f"{path}: is there already. Name another path, or replace it with --force.") from None
        except OSError as e:
            raise InputError(f"{path}: cannot be written ({e.strerror}). Name another path.") from None
        if not quiet:
            print(f"wrote {path}; put your model and data in it, then: clipcal calibrate {path}", file=sys.stderr)


def _spec(source: Path, out: Path | None, **overrides: Any) -> tuple[Spec, Path]:
    if source.suffix.lower() not in (".yaml", ".yml"):
        what = "a run directory" if source.is_dir() else "no YAML spec"
        hint = (
            f" Did you mean `clipcal recommend {source}`?"
            if source.is_dir()
            else " `clipcal init` writes a spec to start from."
        )
        raise InputError(f"{source}: is {what}; this version trains from a spec (.yaml).{hint}")
    from clipcal.spec import load_spec

    spec = load_spec(source, **overrides)
    return spec, out or Path("runs") / spec.name


def _profile(spec: Spec, folder: Path, *, force: bool, resume: bool, threads: int | None, quiet: bool) -> Run:
    from clipcal import live, profiling
    from clipcal.console import note, stderr_console
    from clipcal.stdio import interruptible, prints_to_stderr

    console = stderr_console()
    with (
        interruptible() as asked,
        prints_to_stderr(),
        live.profile_view(console, spec.fields.steps, asked=asked, quiet=quiet) as (on_steps, on_guard),
    ):
        run = profiling.profile(
            spec,
            folder,
            force=force,
            resume=resume,
            threads=threads,
            on_steps=on_steps,
            on_guard=on_guard,
            should_stop=asked,
            command=sys.argv,
        )
    if not quiet:
        for text in run.info.notes:
            note(f"note: {text}")
        if run.info.status == "stopped":
            note(f"stopped early: {run.info.reason}")
    if run.info.status == "interrupted":
        note(
            f"{run.info.reason}; {run.folder} keeps every step. `clipcal recommend {run.folder}` reads it, --resume goes on with it."
        )
        raise typer.Exit(INTERRUPTED)
    if not quiet:
        note(f"wrote {run.folder}")
    return run


def _recommend(source: Path) -> tuple[Evidence, Recommendation]:
    from clipcal.evidence import load

    evidence = load(source)
    return evidence, evidence.recommend()


def _save(run: Run, recommendation: Recommendation, *, quiet: bool) -> None:
    from clipcal.jsonfile import write_json

    try:
        write_json(run.recommendation, recommendation.as_dict())
    except InputError as e:
        if not quiet:
            print(f"note: {e}", file=sys.stderr)


def _verify(
    run: Run,
    recommendation: Recommendation,
    others: list[float],
    seeds: int,
    steps: int | None,
    jobs: int | None,
    *,
    force: bool,
    quiet: bool,
    spaced: bool,
) -> Verification:
    from clipcal.arms import warm_up

    max_norm = recommendation.max_norm
    if max_norm is None:
        if not others:
            _stop(
                f"nothing to verify: {recommendation.reasons[0]} Give a threshold with --max-norm to try one all the same.",
                NO,
            )
        max_norm, *others = others
    if spaced:
        print(flush=True)
    warm_up(run.info.device)
    from clipcal import live, verifying
    from clipcal.console import stderr_console

    with live.arms_view(stderr_console(), steps or run.info.steps, quiet=quiet) as (on_plan, on_progress):
        return verifying.verify(
            run,
            max_norm=max_norm,
            others=others,
            seeds=seeds,
            steps=steps,
            jobs=jobs,
            force=force,
            on_plan=on_plan,
            on_progress=on_progress,
        )


def _choose(
    run: Run,
    recommendation: Recommendation,
    others: list[float],
    seeds: int,
    jobs: int | None,
    *,
    quiet: bool,
    spaced: bool,
) -> Outcome:
    from clipcal.arms import warm_up

    if spaced:
        print(flush=True)
    warm_up(run.info.device)
    from clipcal import choosing, live
    from clipcal.console import stderr_console
    from clipcal.trials import Trials

    with live.arms_view(stderr_console(), run.info.steps, quiet=quiet) as (on_plan, on_progress):
        trials = Trials(run, jobs=jobs, on_plan=on_plan, on_progress=on_progress)
        return choosing.choose(trials, recommendation, others=others, seeds=seeds)


def _show_recommendation(evidence: Evidence, recommendation: Recommendation) -> None:
    from clipcal import console

    out = console.stdout_console()
    width, ascii = console.picture_width(out), console.is_ascii(out)
    console.show(out, console.recommendation(recommendation, evidence.trace, evidence.norms, width=width, ascii=ascii))


def _compared(
    evidence: Evidence, recommendation: Recommendation, *, compare: bool, layers: bool
) -> tuple[tuple[Replayed, ...], Culprits | None]:
    replayed: tuple[Replayed, ...] = ()
    found = None
    if layers:
        from clipcal.culprits import culprits

        found = culprits(evidence, recommendation)
    if compare:
        from clipcal.replay import replay

        replayed = replay(evidence.norms, recommendation)
    return replayed, found


def _show_tables(evidence: Evidence, replayed: tuple[Replayed, ...], culprits: Culprits | None) -> None:
    from clipcal import console, tables

    out = console.stdout_console()
    width, ascii = out.width if out.is_terminal else None, console.is_ascii(out)
    if replayed:
        console.show(out, tables.comparison(replayed, method=evidence.method, width=width, ascii=ascii))
    if culprits is not None:
        console.show(out, tables.layers(culprits, width=width, ascii=ascii))


def _show_choice(run: Run, outcome: Outcome) -> None:
    from clipcal import console

    if outcome.race is not None:
        out = console.stdout_console()
        console.show(out, console.choice(outcome.choice, method=run.info.method, ascii=console.is_ascii(out)))


def _show_verification(run: Run, verification: Verification) -> None:
    from clipcal import console

    out = console.stdout_console()
    console.show(out, console.verification(verification, method=run.info.method, ascii=console.is_ascii(out)))


def _show_snippet(recommendation: Recommendation, run: Run | None) -> None:
    from clipcal import console
    from clipcal.snippets import SNIPPETS

    out = console.stdout_console()
    others = [name for name in SNIPPETS if name != "pytorch"]
    text = _snippet("pytorch", recommendation, run)
    console.show(out, console.pasted("PyTorch", text, others))


def _show_one_snippet(framework: str, evidence: Evidence, recommendation: Recommendation) -> None:
    from clipcal.snippets import resolve

    resolve(framework)
    if recommendation.max_norm is None:
        _stop(f"no threshold to paste: {recommendation.reasons[0]}", NO)
    print(_snippet(framework, recommendation, evidence.run))


def _snippet(framework: str, recommendation: Recommendation, run: Run | None) -> str:
    from clipcal.snippets import snippet

    assert recommendation.max_norm is not None
    what = f"{run.info.source.get('path', run.folder)}, {run.info.started[:10]}" if run else str(recommendation.source)
    return snippet(
        framework,
        max_norm=recommendation.max_norm,
        method=recommendation.method,
        norm_type=recommendation.norm_type,
        provenance=f"calibrated by clipcal {__version__} on {recommendation.steps} steps of {what}",
    )


def _print_json(value: Any) -> None:
    from clipcal.jsonfile import dumps

    print(dumps(value, indent=1))


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
