"""A source and a test -> whether one of its earlier lines passes: what a format is recognised by where its log starts with
long dumps of a configuration or a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from clipcal.logs.source import Source


def early_line(
    source: Source, needle: bytes | tuple[bytes, ...], test: Callable[[str], object], *, any_case: bool = False
) -> bool:
    """Whether ``test`` is true of a line in the first 32 MiB. It sees only lines that contain ``needle``, or one of them, cut
    to 20,000 characters. ``any_case``: the needles are in small letters, and the lines need not be."""
    if not source.is_text:
        return False
    needles = needle if isinstance(needle, tuple) else (needle,)
    for block in source.early:
        for raw in _lines_with(block, block.lower() if any_case else block, needles):
            parts = raw.decode("utf-8", "replace").split("\r")
            if any(test(part[:20_000]) for part in parts if part):
                return True
    return False


def _lines_with(block: bytes, searched: bytes, needles: tuple[bytes, ...]) -> Iterator[bytes]:
    """The lines of a block that contain a needle. The block is searched as a whole: that is much faster than line by line."""
    nexts = {needle: at for needle in needles if (at := searched.find(needle)) >= 0}
    while nexts:
        at = min(nexts.values())
        start = searched.rfind(b"\n", 0, at) + 1
        end = searched.find(b"\n", at)
        end = len(block) if end < 0 else end
        yield block[start:end]
        nexts = {n: f for n, found in nexts.items() if (f := found if found > end else searched.find(n, end + 1)) > end}
