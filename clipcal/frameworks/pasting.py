"""A recommendation and its run -> the snippet in a framework's words, with the comment that says where it comes from."""

from __future__ import annotations

import datetime

from clipcal._version import __version__
from clipcal.frameworks.snippets import SNIPPETS, provenance, snippet
from clipcal.recommendation.answer import Recommendation
from clipcal.run.directory import Run


def framework_of(run: Run | None) -> str:
    """The framework that the run's script lets clip, where that was seen."""
    name = run.info.source.framework if run is not None else None
    return name if name in SNIPPETS else "pytorch"


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
    batch, accumulate = run.info.source.batch
    return provenance(
        version=__version__,
        source=run.info.source.path_or(run.folder),
        steps=recommendation.steps,
        batch_size=batch,
        accumulate=accumulate,
        num_ranks=run.info.world_size,
        date=run.info.started,
    )
