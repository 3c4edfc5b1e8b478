"""The server of `nursery`: requests on sockets -> forked processes that become the programs that were asked for.

``python nursery_server.py FOLDER STUB`` listens on a socket in FOLDER for each kind of program, and ends with its standard input. STUB is what
programs find as ``sys.executable``.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import ctypes
import fcntl
import gc
import importlib
import importlib.util
import multiprocessing.spawn
import os
import random
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import types
import warnings
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NoReturn

from nursery import PRELOADED, REAL, SESSION


def serve(folder: Path, stub: str) -> None:
    """Fork, for each kind that is asked for, a process that has its modules and answers from then on."""
    sockets: dict[socket.socket, str] = {}
    for kind in PRELOADED:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(folder / f"{kind}.socket"))
        listening.listen(64)
        sockets[listening] = kind
    while True:
        waiting: list[Any] = [sys.stdin, *sockets]
        ready, _, _ = select.select(waiting, [], [])
        if sys.stdin in ready:
            os.killpg(0, signal.SIGKILL)
        for listening in ready:
            _import(PRELOADED["torch"])
            kind = sockets.pop(listening)
            if os.fork() == 0:
                for other in sockets:
                    other.close()
                _import(PRELOADED[kind])
                gc.freeze()
                _answer(listening, stub)
            listening.close()


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):  # the tests that need it skip themselves
            importlib.import_module(name)


def _answer(listening: socket.socket, stub: str) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for the programs
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _look_after(connection, stub)
        connection.close()


def _look_after(connection: socket.socket, stub: str) -> NoReturn:
    """Start the program that is asked for, tell its number and how it ended; end it where nobody wants to know any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(connection, 4, 64)
    asked = b""
    while len(asked) < int.from_bytes(head, "big"):
        asked += connection.recv(1 << 16)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(asked.decode(errors="surrogateescape").split("\0"), streams, stub)
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(OSError):
        connection.sendall(child.to_bytes(4, "big"))
    ended = os.pidfd_open(child)
    waiting: list[Any] = [connection, ended]
    ready, _, _ = select.select(waiting, [], [])
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(code.to_bytes(4, "big", signed=True))
    os._exit(0)


def _become(asked: list[str], streams: list[int], stub: str) -> NoReturn:
    number = int(asked[0])
    cwd, places, file_size, *words = asked[1 : 1 + number]
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_size), most))
    above = [fcntl.fcntl(stream, fcntl.F_DUPFD, 300) for stream in streams]  # out of the way of where they are to be
    for stream in streams:
        os.close(stream)
    for stream, place in zip(above, map(int, places.split()), strict=True):
        os.dup2(stream, place)
        os.close(stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    _take_environment(asked[1 + number :])
    sys.orig_argv = [stub, *words]
    if SESSION in os.environ:
        os.setsid()
        Path(os.environ[SESSION]).write_text(str(os.getpid()))
    else:
        os.setpgid(0, 0)
    if REAL not in os.environ:
        sys.executable = stub
        multiprocessing.spawn.set_executable(stub)
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "PYTHONUNBUFFERED" in os.environ:
        for text in (sys.stdout, sys.stderr):
            text.reconfigure(write_through=True)  # type: ignore[union-attr]
    if "PYTHONWARNINGS" in os.environ:
        sys.warnoptions[:] = os.environ.pop("PYTHONWARNINGS").split(",")
        warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined]
    first = {"-m": cwd, "-c": ""}.get(words[0], str(Path(cwd, words[0]).resolve().parent))
    added = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:] = [first, *added, *sys.path[1:]]
    sys.argv = words if words[0] not in ("-m", "-c") else [words[0], *words[2:]]
    importlib.invalidate_caches()
    _end(_run(words, added))


def _take_environment(environment: list[str]) -> None:
    os.environ.clear()
    for entry in environment:
        name, _, value = entry.partition("=")
        os.environ[name] = value
    block = b"".join(os.fsencode(entry) + b"\0" for entry in environment)
    with open("/proc/self/stat", "rb") as f:
        fields = f.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end of proc(5), counted from the state
    if len(block) < end - start:
        ctypes.memmove(start, block.ljust(end - start, b"\0"), end - start)


def _run(words: list[str], added: list[str]) -> int:
    try:
        _customize(added)
        if words[0] == "-m":
            _main(None)
            runpy._run_module_as_main(words[1])  # type: ignore[attr-defined]
        elif words[0] == "-c":
            exec(compile(words[1], "<string>", "exec"), _main(None))
        else:
            file = os.path.abspath(words[0])
            with open(file, "rb") as f:
                code = compile(f.read(), file, "exec")
            exec(code, _main(file))
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int):
            return e.code or 0
        print(e.code, file=sys.stderr)
        return 1
    except BaseException as e:
        traceback = e.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
            traceback = traceback.tb_next
        sys.excepthook(type(e), e.with_traceback(traceback), traceback)
        return -signal.SIGINT if isinstance(e, KeyboardInterrupt) else 1
    return 0


def _main(file: str | None) -> dict[str, Any]:
    main = types.ModuleType("__main__")
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    if file is not None:
        main.__file__ = file
        main.__loader__ = SourceFileLoader("__main__", file)
    sys.modules["__main__"] = main
    return main.__dict__


def _customize(added: list[str]) -> None:
    """What `site` does in a fresh interpreter; and what waits there for modules that are imported already is called now."""
    sys.modules.pop("sitecustomize", None)
    if any(os.path.exists(os.path.join(p, "sitecustomize.py")) for p in added):
        importlib.import_module("sitecustomize")
    for finder in sys.meta_path:
        actions = getattr(finder, "actions", {})
        for name in [n for n in actions if n in sys.modules]:
            actions.pop(name)(sys.modules[name])


def _end(code: int) -> NoReturn:
    """As an interpreter ends, without taking itself apart."""
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for text in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            text.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    sys.path[:] = [p for p in sys.path if p != str(Path(__file__).parent)]
    serve(Path(sys.argv[1]), sys.argv[2])
