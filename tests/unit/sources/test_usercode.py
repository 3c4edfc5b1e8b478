"""Whose frame is it? A package is not the user's, wherever it is installed."""

from __future__ import annotations

import sysconfig
from types import TracebackType

import pytest

from clipcal.sources.usercode import is_users


def raised_in(file: str) -> TracebackType | None:
    """The traceback of an error that the code of a file raised, without the frame of this test."""
    with pytest.raises(ValueError, match="raised") as caught:
        exec(compile("raise ValueError('raised')", file, "exec"), {})
    return caught.tb.tb_next


@pytest.mark.parametrize(
    "file",
    [
        f"{sysconfig.get_path('purelib')}/torch/optim/sgd.py",
        "/opt/conda/lib/python3.11/site-packages/torch/optim/sgd.py",  # an environment with --system-site-packages
        "/usr/lib/python3/dist-packages/torch/optim/sgd.py",  # Debian, and images for GPUs
        f"{sysconfig.get_path('stdlib')}/random.py",
    ],
)
def test_an_installed_package_is_not_the_users(file: str) -> None:
    assert not is_users(raised_in(file))


@pytest.mark.parametrize("file", ["/home/somebody/model.py", "/home/somebody/my-site-packages/model.py", "model.py"])
def test_any_other_file_is(file: str) -> None:
    assert is_users(raised_in(file))
