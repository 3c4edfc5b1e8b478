"""A config on the disk -> its text, and back: in one step, or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import NoReturn

from clipcal.errors import InputError, is_full, nearest_path
from clipcal.frameworks.applying.documents import FORMATS

MAX_BYTES = 256 * 1024
"""A config is a few kilobytes. The worst YAML of this size takes PyYAML two seconds, and it is read twice."""


# Words that stand in training code -> the snippet for it.
CODE = (
    ("optim_wrapper", "mmengine"),
    ("torchtitan", "torchtitan-python"),
    ("TrainingArguments", "huggingface"),
    ("lightning", "lightning"),
    ("stable_baselines3", "stable-baselines3"),
    *((name, name) for name in ("detectron2", "fastai", "keras", "optax", "accelerate")),
    ("torch", "pytorch"),
)
"""In this order: the first word that stands in the file."""


def refuse(path: Path) -> NoReturn:
    """Raise InputError for a file of another kind: it names the snippet to paste there, where that shows."""
    endings = ", ".join(FORMATS)
    if not path.suffix or not os.path.exists(path):
        raise InputError(
            f"{path} is no config file that can be edited; expected one that exists, with a name that ends in {endings}."
        )
    text = read_text(path)
    name = next((name for word, name in CODE if word in text), "NAME")
    raise InputError(
        f"{path} cannot be edited: expected a config in YAML, JSON or TOML, by a name that ends in {endings}. "
        f"`clipcal recommend RUN --for {name}` prints the lines to paste."
    )


def read_text(file: Path) -> str:
    """The whole text with its line breaks, and its byte order mark, as they are. Raises InputError."""
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            is_folder = stat.S_ISDIR(found.st_mode)
            inside = sorted(p.name for p in file.iterdir() if p.suffix.lower() in FORMATS) if is_folder else []
            what = f" It holds {', '.join(inside[:5])}." if inside else ""
            raise InputError(
                f"{file} is {'a folder' if is_folder else 'not a regular file'}; expected a config file in YAML, JSON or TOML.{what}"
            )
        if found.st_size > MAX_BYTES:
            raise InputError(
                f"{file} has {found.st_size:,} bytes, and a config has at most {MAX_BYTES:,}. Is it the right file?"
            )
        data = file.read_bytes()
    except FileNotFoundError:
        near = [p for p in file.parent.iterdir() if p.is_file()] if file.parent.is_dir() else []
        raise InputError(f"{file}: no such file.{nearest_path(file, near, listed=0)}") from None
    except (OSError, ValueError) as e:
        raise InputError(f"{file}: cannot be read ({getattr(e, 'strerror', None) or e}).") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{file} is not UTF-8 text; expected a config in YAML, JSON or TOML.") from None
    if "\0" in text:
        raise InputError(f"{file} holds zero bytes, so it is no text; expected a config in YAML, JSON or TOML.")
    return text


def replace_text(file: Path, *, old: str, new: str) -> None:
    """Put ``new`` where ``old`` is, through a temporary file beside it: whoever reads sees the one or the other, whole.

    A symbolic link stays one, and its target changes; the mode of the file stays. Raises InputError where it cannot be
    written, and where the file does not hold ``old`` any more; what is there is left alone then.
    """
    target = Path(os.path.realpath(file))
    temporary = None
    try:
        before = target.stat()
        if not os.access(target, os.W_OK):
            raise PermissionError(0, "it is write-protected")
        fd, temporary = tempfile.mkstemp(prefix=".clipcal-", dir=target.parent)
        with os.fdopen(fd, "wb") as f:
            f.write(new.encode("utf-8"))
            f.flush()
            os.fsync(f.fileno())
        with contextlib.suppress(OSError):  # only root may give a file away
            os.chown(temporary, before.st_uid, before.st_gid)
        os.chmod(temporary, stat.S_IMODE(before.st_mode))
        if target.read_bytes() != old.encode("utf-8"):
            raise InputError(f"{file} has changed since it was read. Nothing was written; apply again.")
        os.replace(temporary, target)
        temporary = None
    except (OSError, ValueError) as e:
        todo = " Free some space, and apply again." if isinstance(e, OSError) and is_full(e) else ""
        raise InputError(
            f"{file}: cannot be written ({getattr(e, 'strerror', None) or e}). It is as it was.{todo}"
        ) from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
