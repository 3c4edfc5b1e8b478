"""What frameworks call their threshold, and the config files beside a log -> the threshold that was in use."""

from __future__ import annotations

import contextlib
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcal.logs.names import value_of
from clipcal.logs.source import Source

MAX_BYTES = 2**20
MAX_YAML_BYTES = 2**17
"""What PyYAML's own parser takes a second for. Its C parser is faster, and deeply nested text crashes the process."""
_MAX_NODES, _MAX_DEPTH = 20_000, 6


@dataclass(frozen=True, kw_only=True)
class Told:
    """Where a framework tells its threshold: under one of ``keys``, in its log or in ``files`` beside it. ``null_is_off``:
    null stands for no clipping. ``default`` is what it clips at where nothing is said, and whose default that is."""

    keys: tuple[str, ...]
    files: tuple[str, ...] = ()
    null_is_off: bool = False
    default: tuple[str, float] | None = None

    @property
    def words(self) -> str:
        """The keys as a part of a regular expression."""
        return "|".join(self.keys)


_LIGHTNINGS = ("gradient_clip_val",)
_ANY = ("max_grad_norm", "grad_norm_clip", "grad_clip_norm", "clip_grad_norm", "grad_clip", "clip_norm", *_LIGHTNINGS)
TOLD: Mapping[str, Told] = {
    "coqui": Told(keys=("grad_clip",), files=("config.json",)),
    "espnet": Told(keys=("grad_clip",), files=("config.yaml",)),
    "fairseq": Told(keys=("clip_norm",)),
    # ms-swift writes args.json, LLaMA-Factory training_args.yaml, W&B config.yaml, and Trainer itself training_args.bin alone
    "huggingface": Told(
        keys=("max_grad_norm",),
        files=(
            "args.json",
            "training_args.json",
            "trainer_config.json",
            "training_args.yaml",
            "config.yaml",
            "config.yml",
            "training_args.bin",
        ),
        default=("Trainer's default, assumed", 1.0),
    ),
    # its TensorBoardLogger and CSVLogger write the one file, its command line the other
    "lightning": Told(keys=_LIGHTNINGS, files=("hparams.yaml", "config.yaml"), null_is_off=True),
    "marian": Told(keys=("clip-norm",)),
    "megatron": Told(
        keys=("clip_grad", "gradient_clipping")
    ),  # the second is DeepSpeed's, which then does the clipping
    "metriclogger": Told(keys=("clip_grad", "clip_grad_norm", "clip_max_norm")),
    "mmcv": Told(keys=("grad_clip", "clip_grad"), files=("config.py",)),  # each holds a max_norm
    "parlai": Told(keys=("gradient_clip",)),
    "sacred": Told(keys=_ANY, files=("config.json",)),
    "swanlab": Told(keys=_ANY, files=("files/config.yaml",)),
    "dvclive": Told(keys=_ANY, files=("params.yaml",)),
    # Tune writes it beside result.json and progress.csv
    "rllib": Told(keys=("grad_clip",), files=("params.json",)),
    "swin": Told(keys=("CLIP_GRAD", "CLIP_GRAD_NORM")),
}


def threshold_beside(source: Source, told: Told) -> tuple[str, float] | None:
    """Where the threshold stands, as a person would say it, and the threshold; None where no file tells.

    The first file that names one of the keys, at any depth, tells; one that gives two values does not. The files lie in the
    log's folder, or above it where that is a checkpoint's.
    """
    folder = source.path.parent
    for place in (folder, folder.parent) if folder.name.startswith("checkpoint") else (folder,):
        for file in told.files:
            of_pickle = file.endswith(".bin")
            config = _pickled(place / file, told.keys) if of_pickle else _parsed(place / file, told.keys)
            if config is not None and (found := agreed(_named(config, told.keys), null_is_off=told.null_is_off)):
                return f"{found[0]} in {file}", found[1]
    return None


def agreed(settings: Iterable[tuple[str, Any]], *, null_is_off: bool = False) -> tuple[str, float] | None:
    """The threshold and its name, where the settings that are one have one value; None where there is none, or they differ."""
    found = {
        (name, value)
        for name, raw in settings
        if (value := 0.0 if raw is None and null_is_off else value_of(raw)) is not None
    }
    return min(found) if len({value for _, value in found}) == 1 else None


def text_beside(source: Source, file: str) -> str:
    """The text of a file in the log's folder; empty where there is none, or it is too large to be a config."""
    return _bounded(source.path.parent / file, MAX_BYTES).decode("utf-8", "replace")


def _parsed(path: Path, keys: Collection[str]) -> Any:
    is_json = path.suffix == ".json"
    data = _bounded(path, MAX_BYTES if is_json else MAX_YAML_BYTES)
    if not any(key.encode() in data for key in keys):
        return None
    try:
        return json.loads(data) if is_json else _of_yaml(data)
    except (ValueError, RecursionError, OverflowError):
        return None


def _of_yaml(data: bytes) -> Any:
    """Plain values alone: what carries a tag of Python's, such as Lightning's ``!!python/tuple``, is read as nothing. Raises ValueError."""
    import yaml  # few logs have such a file beside them

    class Plain(yaml.SafeLoader):
        """One of its own, as it is taught another rule."""

    Plain.add_multi_constructor("", lambda loader, suffix, node: None)
    try:
        return Plain(data).get_single_data()
    except yaml.YAMLError as e:
        raise ValueError(str(e)) from None


def _pickled(path: Path, keys: Collection[str]) -> dict[str, float | None]:
    """The numbers behind ``keys`` in what torch.save wrote: its pickle is taken apart into its instructions, and none is carried out."""
    import pickletools  # both take as long to load as a small log does to read
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(_bounded(path, MAX_BYTES))) as archive:
            inside = next(i for i in archive.infolist() if i.filename.endswith("data.pkl") and i.file_size <= MAX_BYTES)
            data = archive.read(inside)
    except (zipfile.BadZipFile, StopIteration, OSError, RuntimeError, NotImplementedError, zlib.error, EOFError):
        return {}
    found: dict[str, float | None] = {}
    key: str | None = None
    with contextlib.suppress(ValueError, IndexError, UnicodeDecodeError):  # cut off, or no pickle
        for opcode, value, _ in pickletools.genops(data):
            if opcode.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
                continue
            if key is not None and (opcode.name == "NONE" or value.__class__ in (int, float)):
                found.setdefault(key, value)
            key = value if value.__class__ is str and value in keys else None
    return found


def _bounded(path: Path, limit: int) -> bytes:
    """The bytes of a file; none where there is none, or more of them than ``limit``."""
    try:
        data = path.read_bytes() if path.is_file() and path.stat().st_size <= limit else b""
    except OSError:
        return b""
    return data if len(data) <= limit else b""


def _named(config: Any, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    """All values under ``keys``, at any depth. Aliases make YAML as large as they like, so the search ends at a bound."""
    pending: list[tuple[Any, int]] = [(config, 0)]
    for _ in range(_MAX_NODES):
        if not pending:
            return
        inner, depth = pending.pop()
        if isinstance(inner, Mapping):
            # Lightning clips element by element then: its number is no norm
            by_value = inner.get("gradient_clip_algorithm") == "value"
            for name, value in inner.items():
                if name in keys and not by_value:
                    yield name, value
                elif depth < _MAX_DEPTH and isinstance(value, Mapping | list):
                    pending.append((value, depth + 1))
        elif isinstance(inner, list):
            pending += [(v, depth + 1) for v in inner[:1000] if isinstance(v, Mapping) and depth < _MAX_DEPTH]
