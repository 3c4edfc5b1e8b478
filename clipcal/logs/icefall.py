"""icefall's lines about its clipping -> why no threshold can be read from them."""

from __future__ import annotations

from pathlib import Path

from clipcal.errors import InputError

QUARTILES = "grad-norm quartiles "
"""As in "Clipping_scale=2.0, grad-norm quartiles 1.4e+02 1.7e+02 1.9e+02 2.2e+02 3.2e+02, threshold=3.9e+02"."""


def refused(path: Path) -> InputError:
    """What a log with quartiles alone is answered."""
    return InputError(
        f"{path}: is an icefall log, and holds no norms that a threshold could be read from. Its ScaledAdam has no max_norm: "
        "it clips by itself, at clipping_scale times the median of its latest norms, and these quartiles are of norms that "
        "are relative to the size of the parameters. For another optimizer, print the norm that clip_grad_norm_ returns at "
        "every step."
    )
