"""A recommendation and its run -> the snippet in a framework's words, with the comment that says where it comes from."""

from __future__ import annotations

import datetime
from functools import lru_cache

import yaml

from clipcal._version import __version__
from clipcal.frameworks.snippets import provenance, snippet
from clipcal.frameworks.table import FRAMEWORKS
from clipcal.recommendation.answer import Recommendation
from clipcal.run.directory import Run


def framework_of(run: Run | None) -> str:
    """The framework that the run's script lets clip, where that was seen."""
    name = str(run.info.source.get("framework")) if run is not None else ""
    return name if name in FRAMEWORKS else "pytorch"


def snippet_of(framework: str, recommendation: Recommendation, run: Run | None) -> str:
    """Paste-ready text with where it comes from. Raises InputError where that framework has no words for it."""
    assert recommendation.max_norm is not None
    return snippet(
        framework,
        max_norm=recommendation.max_norm,
        method=recommendation.method,
        norm_type=recommendation.norm_type,
        provenance=_provenance(recommendation, run),
    )


def _provenance(recommendation: Recommendation, run: Run | None) -> str:
    if run is None:
        return provenance(
            version=__version__,
            source=str(recommendation.source),
            steps=recommendation.steps,
            date=datetime.date.today().isoformat(),
        )
    batch, accumulate = _batch(str(run.info.source.get("text", "")))
    return provenance(
        version=__version__,
        source=str(run.info.source.get("path", run.folder)),
        steps=recommendation.steps,
        batch_size=batch,
        accumulate=accumulate,
        num_ranks=run.info.world_size,
        date=run.info.started,
    )


@lru_cache(maxsize=8)  # a report has a snippet for every framework, and reading YAML takes longer than all the rest
def _batch(spec: str) -> tuple[int | None, int]:
    """The batch size and the accumulated micro-batches that the spec of a run names; a spec that cannot be read names none."""
    try:
        fields = yaml.safe_load(spec)
        size, accumulate = fields["data"].get("batch_size"), fields.get("accumulate", 1)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None, 1
    whole = [isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (size, accumulate)]
    return size if whole[0] else None, accumulate if whole[1] else 1
