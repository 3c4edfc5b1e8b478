"""A tensor of one element, as jsonpickle writes it -> its number. Nothing is unpickled.

PyMARL logs what ``clip_grad_norm_`` returned, a tensor since PyTorch 1.5; Sacred then writes torch's pickle of it, in base64.
The bytes of its storage are the last ones: how many elements, 8 bytes, and the elements.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import Any

_KEY = "py/b64"
_MAX_NODES, _MAX_TEXT = 200, 4096
_STORAGE = re.compile(rb"ctorch\n(Float|Double|Half|BFloat16)Storage\n")
_ONE = struct.pack("<q", 1)
_SIZES = {b"Float": 4, b"Double": 8, b"Half": 2, b"BFloat16": 2}
_FORMATS = {b"Float": "<f", b"Double": "<d", b"Half": "<e"}


def tensor_value(raw: Any) -> float | None:
    """The number in a pickled tensor; None for anything else, and for a tensor of several numbers."""
    if not isinstance(raw, dict) or "py/reduce" not in raw:
        return None
    text = _encoded(raw)
    if text is None or len(text) > _MAX_TEXT:
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    found = _STORAGE.search(data)
    if found is None:
        return None
    size = _SIZES[found[1]]
    last = data[-size:]
    if data[-size - 8 : -size] != _ONE:
        return None
    if found[1] == b"BFloat16":  # the upper half of a float
        return float(struct.unpack("<f", b"\0\0" + last)[0])
    return float(struct.unpack(_FORMATS[found[1]], last)[0])


def _encoded(raw: Any) -> str | None:
    pending = [raw]
    for _ in range(_MAX_NODES):
        if not pending:
            break
        inner = pending.pop()
        if isinstance(inner, dict):
            if isinstance(inner.get(_KEY), str):
                return str(inner[_KEY])
            pending += inner.values()
        elif isinstance(inner, list):
            pending += inner[:20]
    return None
