"""fairseq's logs (hydra's, ``--log-format json``, ``simple`` or ``tqdm``, and those of its old releases) -> rows."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from clipcal.logs.early import early_line
from clipcal.logs.launches import Launches
from clipcal.logs.log import Log
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER, value_of

TITLE = "fairseq log"

# Its progress_bar.py writes JSON, "simple" or tqdm, and each in two forms: within an epoch, and at its end.
_JSON = re.compile(r'\{"epoch": .*\}')
_INNER = re.compile(
    r"\bepoch (?P<epoch>\d+)(?: \| [\w.-]+)?(?P<colon>:?)\s[^=]*?(?P<it>\d+)\s*/\s*(?P<its>\d+)\s*(?P<bar>\[?)(?P<values>.*=.*)"
)
_EPOCH = re.compile(r"(?:^|[|-] )epoch (?P<epoch>\d+) \| (?P<values>.*)")
# The last value is not needed, and may be cut off; but the first releases end by gnorm, with four decimals, and have no colon
# and no num_updates: "| epoch 010  2000 / 8223 loss=1.27 (1.50), wps=962, lr=0.001, clip=100%, gnorm=2.1427".
_EQUALS = re.compile(rf"(?<![\w.])([A-Za-z]\w*)=({NUMBER})(?: \([^()]*\))?(?=[,\]])")
_LAST = re.compile(r"\bgnorm=(\d+\.\d{4}|nan|inf)\s*$")
_BLANK = re.compile(rf"([A-Za-z]\w*) ({NUMBER})")
_CONFIG = re.compile(r"Namespace\(|\{'_name'|fairseq_cli\.train\b.*\{")
_CLIP = re.compile(rf"""\bclip_norm['"]?\s*[=:]\s*['"]?({NUMBER})""")
_KEPT = ("gnorm", "loss", "lr")
_OLD = (
    "Lines of a fairseq this old hold the mean since the epoch began, not since the line before: a spike is thinned out "
    "by all the updates of its epoch so far, and pulls up the lines after it."
)
_EPOCHS = "It holds the mean norm of each epoch alone; --log-interval 1 has fairseq log every update."


@dataclass(frozen=True, kw_only=True)
class _Line:
    """``epoch`` where the line stands for a whole epoch, ``bar`` where a progress bar wrote it."""

    values: dict[str, Any]
    epoch: float | None = None
    bar: bool = False


def _recognises(source: Source) -> bool:
    return early_line(source, b"gnorm", _parsed)


def _read(source: Source) -> Log:
    inner, epochs = Rows(), Rows()
    inner_launches, epoch_launches = Launches(inner), Launches(epochs)
    old = False
    last: dict[str, Any] = {}
    for text in source.lines():
        if "clip_norm" in text and _CONFIG.search(text[:2_000]):
            clip = _CLIP.search(text)
            for rows, launches in ((inner, inner_launches), (epochs, epoch_launches)):
                launches.launched()
                rows.threshold("clip_norm in its configuration", value_of(clip[1]) if clip else None)
        line = _parsed(text[:20_000]) if "gnorm" in text else None
        # A bar is drawn again and again between two updates of its values.
        if line is None or (line.bar and line.values == last):
            continue
        last = line.values
        kept = {name: line.values[name] for name in _KEPT if name in line.values}
        if line.epoch is not None:
            epoch_launches.add(kept, step=line.epoch)
        else:
            inner_launches.add(kept, step=value_of(line.values.get("num_updates")))
            old = old or not (line.bar or "train_inner" in text)
    if len(inner) or not len(epochs):
        return inner.log(TITLE, window="mean", after=False, notes=(_OLD,) if old else ())
    return epochs.log(TITLE, window="mean", after=False, unit="epoch", notes=(_EPOCHS,))


def _parsed(text: str) -> _Line | None:
    """A line that holds a gnorm, in whichever shape."""
    found = _JSON.search(text)
    if found:
        try:
            row = json.loads(found[0])
        except (ValueError, RecursionError):
            return None
        if "train_gnorm" in row:
            own = {name.removeprefix("train_"): value for name, value in row.items()}
            return _Line(values=own, epoch=value_of(row["epoch"]))
        return _Line(values=row) if "gnorm" in row else None
    found = _INNER.search(text[:4_000])
    if found:
        values: dict[str, Any] = dict(_EQUALS.findall(found["values"]))
        last = None if found["colon"] else _LAST.search(found["values"])
        if last:
            values |= {
                "gnorm": last[1],
                "num_updates": (int(found["epoch"]) - 1) * int(found["its"]) + int(found["it"]),
            }
        return _Line(values=values, bar=bool(found["bar"])) if "gnorm" in values else None
    found = _EPOCH.search(text)
    if found:
        pairs = (_BLANK.fullmatch(field.strip()) for field in found["values"].split(" | ")[:-1])
        means = {pair[1]: pair[2] for pair in pairs if pair}
        return _Line(values=means, epoch=float(found["epoch"])) if "gnorm" in means else None
    return None


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="train with --log-format json --log-interval 1: fairseq logs gnorm by itself",
)
