"""RAY_ADDRESS -> Ray, connected to the cluster that runs there; clipcal starts none."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, TextIO, cast

from clipcal.errors import InputError
from clipcal.streams import prints_to_stderr

ADDRESS = "RAY_ADDRESS"


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """Ray, connected to a cluster: that of this process, if it is in one, or else the one of RAY_ADDRESS, or one on this machine.

    Raises InputError where there is none: clipcal starts none.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise InputError(
            "--executor ray needs a Ray cluster, and ray is not installed. Run pip install 'clipcal[ray]'"
        ) from None
    importlib.import_module("ray.util.scheduling_strategies")
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get(ADDRESS) or "auto"
    _check_address(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        with warnings.catch_warnings(), prints_to_stderr(), _own_signals():
            warnings.simplefilter("ignore")  # of what changes in Ray's next version
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        raise _none_found("none runs on this machine") from None
    except Exception as e:
        raise InputError(
            f"--executor ray: the cluster at {address} cannot be joined ({str(e).strip().splitlines()[0]}). Start clipcal on one of its nodes, "
            "with the Python and the ray that they have."
        ) from None
    with contextlib.redirect_stdout(cast(TextIO, _NotOfRay(sys.stdout))):
        try:
            yield ray
        finally:
            ray.shutdown()


class _NotOfRay:
    """A stream without what Ray's own threads print there: every lost worker, told in a page, where the answer goes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name.startswith("ray_") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray's answer to SIGTERM is a page of addresses; a process that just ends is cleared up after by its cluster."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _check_address(address: str) -> None:
    """Ray itself tries for two minutes, and then ends the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():
        raise InputError(
            f"--executor ray: {ADDRESS} is {address!r}; expected HOST:PORT of a head node, or auto for the cluster that this machine is in. "
            "From outside a cluster, start clipcal in it: `ray job submit -- clipcal verify ...`."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError):
        raise _none_found(f"nothing answers at {ADDRESS}={address}") from None


def _none_found(why: str) -> InputError:
    return InputError(
        f"--executor ray: there is no Ray cluster ({why}). Start one with `ray start --head`, join it from other machines with "
        "`ray start --address=HEAD:6379`, and try again; or leave --executor out."
    )
