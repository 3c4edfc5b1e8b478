"""fairseq's logs (hydra's, ``--log-format json``, ``simple`` or ``tqdm``, and those of its old releases) -> rows."""

from __future__ import annotations

import json
import re
from typing import Any

from clipcal.logs.in_use import TOLD
from clipcal.logs.lines import LineLog
from clipcal.logs.log import Log
from clipcal.logs.names import NUMBER, value_of
from clipcal.logs.rows import Rows

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
_CLIP = re.compile(rf"""\b{TOLD["fairseq"].words}['"]?\s*[=:]\s*['"]?({NUMBER})""")
_KEPT = ("gnorm", "loss", "lr")
_OLD = (
    "Lines of a fairseq this old hold the mean since the epoch began, not since the line before: a spike is thinned out "
    "by all the updates of its epoch so far, and pulls up the lines after it."
)
_EPOCHS = "It holds the mean norm of each epoch alone; --log-interval 1 has fairseq log every update."


_Line = tuple[dict[str, Any], float | None, bool]
"""The values of a line; its epoch, where it stands for a whole one; and whether a progress bar wrote it."""


class _Fairseq(LineLog):
    """``rows`` are those of updates; means over epochs stand beside them, and count where there is nothing else."""

    title = "fairseq log"
    framework = "fairseq"
    norms = "train with --log-format json --log-interval 1: fairseq logs gnorm by itself"
    words = ("gnorm",)
    window = "mean"
    after = False

    def __init__(self) -> None:
        super().__init__()
        self._epochs = Rows()
        self._old = False
        self._last: dict[str, Any] = {}

    @classmethod
    def found(cls, line: str) -> _Line | None:
        return _parsed(line[:20_000])

    def line(self, line: str) -> None:
        if "clip_norm" in line and _CONFIG.search(line[:2_000]):
            clip = _CLIP.search(line)
            for rows in (self.rows, self._epochs):
                rows.launched()
                rows.threshold("clip_norm in its configuration", value_of(clip[1]) if clip else None)
        found = self.found(line) if "gnorm" in line else None
        if found is None:
            return
        values, epoch, bar = found
        if bar and values == self._last:
            return  # it is drawn again and again between two updates of its values
        self._last = values
        kept = {name: values[name] for name in _KEPT if name in values}
        if epoch is not None:
            self._epochs.add(kept, step=epoch)
        else:
            self.rows.add(kept, step=value_of(values.get("num_updates")))
            self._old = self._old or not (bar or "train_inner" in line)

    def log(self) -> Log:
        if len(self.rows) or not len(self._epochs):
            self.notes = (_OLD,) if self._old else ()
            return super().log()
        return self._epochs.log(self.title, window="mean", after=False, unit="epoch", notes=(_EPOCHS,))


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
            return own, value_of(row["epoch"]), False
        return (row, None, False) if "gnorm" in row else None
    found = _INNER.search(text[:4_000])
    if found:
        values: dict[str, Any] = dict(_EQUALS.findall(found["values"]))
        last = None if found["colon"] else _LAST.search(found["values"])
        if last:
            step = (int(found["epoch"]) - 1) * int(found["its"]) + int(found["it"])
            values |= {"gnorm": last[1], "num_updates": step}
        return (values, None, bool(found["bar"])) if "gnorm" in values else None
    found = _EPOCH.search(text)
    if found:
        pairs = (_BLANK.fullmatch(field.strip()) for field in found["values"].split(" | ")[:-1])
        means = {pair[1]: pair[2] for pair in pairs if pair}
        return (means, float(found["epoch"]), False) if "gnorm" in means else None
    return None


READER = _Fairseq.reader()
