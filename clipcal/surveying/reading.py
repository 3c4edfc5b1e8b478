"""What was found -> its row: read, recommended and checked as ``recommend`` and ``check`` do, in whichever process it is asked for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from clipcal.checking import Check, check
from clipcal.errors import InputError
from clipcal.logs.log import Log
from clipcal.logs.reading import read_log
from clipcal.logs.source import Source
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import Evidence, load, of_log
from clipcal.run.trace import is_trace
from clipcal.surveying.finding import STATE, Found, training_of
from clipcal.surveying.row import Row, State

TRIED = 3
"""Checkpoints of one training that are tried, the latest first: a job that is killed may leave the last one cut off."""
RUN, TRACE = "clipcal run", "clipcal trace"
_PARQUET = b"PAR1"
_TOLD = (b"norm", b"gnrm")
_TRAINING = (*_TOLD, b"loss")


def row_of(found: Found) -> Row | None:
    """The row of a log or run. None for a file whose content is no training log's, where its name did not say so either.

    Whatever is wrong with a file becomes the ``problem`` of its row.
    """
    try:
        if found.how == "unnamed" and not _says(found.path, _TOLD):
            return None
        evidence, format_ = _evidence(found)
        return _judged(found, evidence, format_)
    except InputError as e:
        if found.how == "unnamed" or (found.how == "general" and not _may_be_a_log(found.path)):
            return None
        return Row(path=str(found.path), name=name_of(found), problem=str(e))
    except Exception as e:  # one file must not end the survey of a thousand
        problem = f"{found.path}: clipcal itself failed on it ({type(e).__name__}: {e}). `clipcal recommend {found.path}` shows where."
        return Row(path=str(found.path), name=name_of(found), problem=problem)


def _says(path: Path, words: tuple[bytes, ...]) -> bool:
    """Whether the first megabyte has one of the words. What a Parquet file names stands at its end."""
    head = Source(path).head
    return head.startswith(_PARQUET) or any(word in head.lower() for word in words)


def _may_be_a_log(path: Path) -> bool:
    """Whether a file that is named as data are is a log of which nothing can be read; one that cannot be opened may be."""
    try:
        return _says(path, _TRAINING)
    except InputError:
        return True


def _evidence(found: Found) -> tuple[Evidence, str]:
    """What the files say, and their format as a person would say it."""
    if found.how == "run":
        return load(found.path), RUN
    if found.path.name == STATE:
        return _latest(found)
    if len(found.files) == 1:
        path = found.files[0]
        if is_trace(path):
            return load(path), TRACE
        log = read_log(path)
    else:
        log = _event_files(found)
    return of_log(log, str(found.path)), log.format


def _latest(found: Found) -> tuple[Evidence, str]:
    refused: InputError | None = None
    for path in found.files[:TRIED]:
        try:
            log = read_log(path)
        except InputError as e:
            refused = refused or e
            continue
        notes = [] if refused is None else [f"The latest checkpoint cannot be read, and {path} was. {refused}"]
        if len(found.files) > 1:
            notes.append(f"{len(found.files)} checkpoints hold this training.")
        return of_log(replace(log, notes=(*notes, *log.notes)), str(path)), log.format
    assert refused is not None
    raise refused


def _event_files(found: Found) -> Log:
    from clipcal.logs.readers import tensorboard

    log = tensorboard.read_folder(found.files)
    if not any(len(series) for series in log.series):
        reader = tensorboard.READER
        raise InputError(
            f"{found.path}: holds no gradient norm (read as: {reader.title}). To have it logged, {reader.norms}."
        )
    return log


def name_of(found: Found) -> str:
    """What the run may be called: its training's folder, or the file itself where its name is its own."""
    if found.path.name == STATE:
        return training_of(found.path).absolute().name
    if found.how == "named" and found.path == found.files[0]:
        return found.path.absolute().parent.name
    return found.path.absolute().name if found.path != found.files[0] else found.path.name.partition(".")[0]


def _judged(found: Found, evidence: Evidence, format_: str) -> Row:
    in_use = evidence.in_use
    known = in_use is not None and math.isfinite(in_use) and in_use > 0
    answer = check(evidence) if known else None
    r = answer.recommendation if answer is not None else evidence.recommend()
    row = Row(
        path=evidence.source,
        format=format_,
        name=evidence.run.info.name if evidence.run is not None else name_of(found),
        rows=r.steps,
        verdict=r.verdict,
        median=r.stable.median if r.stable is not None else None,
        spikes=r.spikes.count,
        nonfinite=r.nonfinite.count,
        method=r.method,
        max_norm=r.max_norm,
        confidence=r.confidence,
        reason=r.reasons[0] if r.reasons else None,
        notes=r.caveats,
        in_use=in_use,
        in_use_from=evidence.in_use_from or None,
        state="none known" if in_use is None else "off",
    )
    return row if answer is None else _with(row, answer, r)


def _with(row: Row, c: Check, r: Recommendation) -> Row:
    """The row with what the check says."""
    scale = c.acts.stable_scale if c.acts.stable_scale is not None else c.mean_scale
    return replace(
        row,
        state=state_of(c),
        fits=c.fits,
        acts=c.acts.share if c.acts.stable is None else c.acts.stable,
        takes=None if scale is None or r.verdict == "clipped" else 1 - scale,
        passes=None if c.acts.spikes is None else 1 - c.acts.spikes,
        reason=c.reasons[0] if c.reasons else row.reason,
    )


def state_of(c: Check) -> State:
    """Whether the threshold of a check fits, in a word, with the side that it is wrong on."""
    if c.fits is None:
        return "cannot be told"
    if c.fits is True:
        return "fits"
    if c.fits == "borderline":
        return "borderline"
    if "diverged_clipped" in c.codes:
        return "does not fit"
    if c.fitting is None:
        return "too low" if c.verdict == "brake" else "does not fit"
    if c.max_norm < c.fitting.low:
        return "too low"
    return "too high" if c.max_norm > c.fitting.high else "does not fit"
