"""A path -> the text or bytes of one log, within bounds: whatever the file holds, reading it ends soon and fits in memory."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import re
import stat
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from clipcal.errors import InputError

MAX_LINE = 16 * 2**20
"""Bytes: no log has a longer line, and what would be one is no log."""
MAX_DOCUMENT = 256 * 2**20
"""Bytes of a file that has to be parsed as a whole."""
MAX_BYTES = 16 * 2**30
"""Bytes after decompression: 150 times what a million steps take."""
_CHUNK = 2**20
_EARLY = 32 * 2**20
_FIRST, _TELLING = 200, 200
_CODES = 100
_TOLD = re.compile(rb"(?i)(?:grad[a-z]{0,6}[ _]?norm|gnorm|gnrm)\W{1,12}[0-9]")
_FULL = 1_000
"""Norms in a block of lines that is no dump of settings."""
ANSI = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_LFS = b"version https://git-lfs.github.com/spec/"
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Source:
    """One log file. Raises InputError where it cannot be read, is empty, or is a Git LFS pointer.

    ``trouble`` is what ended the search for ``telling`` lines, where the file is no text of a log's kind further down;
    ``fault``, once ``document`` was asked for, is where the file stops being JSON, though it begins as such.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            status = path.stat()
        except OSError as e:
            raise InputError(
                f"{path}: cannot be read ({e.strerror}). Name a training log, or a run directory."
            ) from None
        except ValueError:
            raise InputError(f"{str(path)!r}: is no path. Name a training log, or a run directory.") from None
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: is not a file. Name a training log; save a stream to a file first.")
        self.size = status.st_size
        self.trouble: InputError | None = None
        self.fault: json.JSONDecodeError | None = None
        head = self.head
        if not head.strip(b"\0 \t\r\n"):
            raise InputError(
                f"{path}: {'holds nothing but blanks' if head else 'is empty'}. Name the log of a training run."
            )
        if head.startswith(_LFS):
            raise InputError(
                f"{path}: is a Git LFS pointer, not the log itself. Fetch it with `git lfs pull` in its repository, and try again."
            )

    @cached_property
    def head(self) -> bytes:
        """The first megabyte, decompressed."""
        return next(self.chunks(), b"")

    @cached_property
    def opening(self) -> bytes:
        """The first byte that is no blank."""
        return self.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]

    @cached_property
    def is_text(self) -> bool:
        """Whether the head could be text: other files have NUL bytes or many bytes that are no UTF-8."""
        if any(self.head.startswith(bom) for bom, _ in _BOMS):
            return True
        sample = self.head[:65536]
        strange = sum(sample.count(bytes([c])) for c in (*range(7), *range(14, 27), *range(28, 32)))
        return strange <= len(sample) // 200 and sample.decode("utf-8", "replace").count("\ufffd") <= len(sample) // 50

    def lines(self) -> Iterator[str]:
        """The lines without their ends, without ANSI colours. A carriage return ends a line too, as progress bars use it."""
        for raw in self.raw_lines():
            line = raw.decode("utf-8", "replace")
            if "\r" in line:
                yield from (part for part in line.split("\r") if part)
            else:
                yield line

    def raw_lines(self) -> Iterator[bytes]:
        """The lines as UTF-8, ended by newlines alone, without ANSI colours."""
        for block in self.blocks():
            yield from block.split(b"\n")

    def blocks(self, *, coloured: bool = False) -> Iterator[bytes]:
        """Whole lines as ``raw_lines`` has them, about a megabyte of them at a time, joined by newlines. ``coloured``: with their ANSI
        sequences."""
        rest: list[bytes] = []
        held = number = 0
        codes: set[bytes] = set()
        for chunk in self._utf8():
            end = chunk.rfind(b"\n")
            if end < 0:
                rest.append(chunk)
                held += len(chunk)
                if held > MAX_LINE:
                    raise InputError(
                        f"{self.path}:{number + 1}: is a line of over {MAX_LINE >> 20} MiB. Name the log of a training run."
                    )
                continue
            block = b"".join((*rest, chunk[:end]))
            rest, held = [chunk[end + 1 :]], len(chunk) - end - 1
            number += block.count(b"\n") + 1
            yield _colourless(block, codes) if b"\x1b" in block and not coloured else block
        last = b"".join(rest)
        if last:
            yield _colourless(last, codes) if b"\x1b" in last and not coloured else last

    @cached_property
    def early(self) -> tuple[bytes, ...]:
        """The first 32 MiB as ``blocks`` has them, or what of it can be read: the dumps of configurations and models of a run
        that was restarted fifty times come to less. It ends a block behind the first one full of norms: the format shows there.
        Kept, as every format is looked for in it."""
        found: list[bytes] = []
        left, is_told = _EARLY, False
        with contextlib.suppress(InputError):  # unreadable further on: whoever reads the file says so
            for block in self.blocks():
                found.append(block)
                left -= len(block) + 1
                if left < 0 or is_told:
                    break
                is_told = len(_TOLD.findall(block)) >= _FULL
        return tuple(found)

    @cached_property
    def telling(self) -> tuple[str, ...]:
        """The first lines, and the first of the others that name a norm: what a format is recognised by."""
        found: list[str] = []
        norms = 0
        if not self.is_text:
            return ()
        try:
            for i, raw in enumerate(self.raw_lines()):
                if i < _FIRST or b"norm" in raw or b"Norm" in raw or b"gnrm" in raw or b"NORM" in raw:
                    found += [part[:20_000] for part in raw.decode("utf-8", "replace").split("\r") if part.strip()]
                    norms += i >= _FIRST
                if norms >= _TELLING:
                    break
        except InputError as e:
            self.trouble = e
        return tuple(found)

    @cached_property
    def document(self) -> Any:
        """The file as one JSON document, None where it is none (JSON lines are none)."""
        if self.opening not in (b"{", b"["):
            return None
        first, _, more = self.head.lstrip().partition(b"\n")
        if more.lstrip()[:1] == b"{" and self.opening == b"{" and is_object(first):
            return None
        data = self.whole()
        try:
            return json.loads(data)
        except RecursionError:
            raise InputError(f"{self.path}: is JSON that is nested too deeply to be a training log.") from None
        except ValueError as e:
            self.fault = e if isinstance(e, json.JSONDecodeError) else None
            return None

    @property
    def known_document(self) -> Any:
        """``document``, and None too where it is too large or nested too deeply."""
        with contextlib.suppress(InputError):
            return self.document
        return None

    def whole(self) -> bytes:
        """All bytes, decompressed. Raises InputError above 256 MiB."""
        parts, size = [], 0
        for chunk in self._utf8():
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_DOCUMENT:
                raise InputError(
                    f"{self.path}: is over {MAX_DOCUMENT >> 20} MiB in one piece, more than is read at once. "
                    "Write it as JSON lines or CSV."
                )
        return b"".join(parts)

    def _utf8(self) -> Iterator[bytes]:
        encoding = next((name for bom, name in _BOMS if self.head.startswith(bom)), None)
        if encoding is None:
            yield from self.chunks()
            return
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        first = True
        for chunk in self.chunks():
            text = decoder.decode(chunk)
            yield (text.lstrip("\ufeff") if first else text).encode()
            first = False

    def chunks(self) -> Iterator[bytes]:
        """The bytes, decompressed, a megabyte at a time."""
        read = 0
        try:
            with self.path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                stream: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if packed else raw
                while chunk := stream.read(_CHUNK):
                    yield chunk
                    read += len(chunk)
                    if read > MAX_BYTES:
                        raise InputError(f"{self.path}: is over {MAX_BYTES >> 30} GiB, more than any training log.")
        except (EOFError, zlib.error, gzip.BadGzipFile):
            if not read:
                raise InputError(
                    f"{self.path}: looks gzipped, and cannot be unpacked. Unpack it yourself, or copy it again."
                ) from None
            # cut off: what came before is a log all the same
        except OSError as e:
            raise InputError(f"{self.path}: cannot be read ({e.strerror or e}). Name a training log.") from None


def _colourless(block: bytes, codes: set[bytes]) -> bytes:
    """Without ANSI sequences. A log has few ``codes``: those that were met are replaced in a tenth of the time that a search takes."""
    for code in codes:
        block = block.replace(code, b"")
    if b"\x1b" in block:
        codes.update(ANSI.findall(block)[:_CODES])
        block = ANSI.sub(b"", block)
    return block


def is_object(line: bytes) -> bool:
    """Whether a line is a JSON object, whole."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def not_json(source: Source) -> InputError:
    """What to say of a file that begins as JSON and ends as none, and of which nothing can be read."""
    at = str(source.path) if source.fault is None else f"{source.path}:{source.fault.lineno}:{source.fault.colno}"
    return InputError(
        f"{at}: is not valid JSON (cut off?) from here on. Copy it again, or name a file that was written to its end, such as "
        "another checkpoint's."
    )
