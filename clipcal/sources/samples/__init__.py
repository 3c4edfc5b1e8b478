"""A shipped sample's name -> its files, and these in a folder: the spec, and those modules of sample_models that its imports lead to.

The repository keeps the samples at its root, in configs/ and sample_models/. A wheel carries both folders beside this file.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcal.errors import InputError, nearest
from clipcal.run.files import write_whole

MODELS = "sample_models"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """``spec`` and ``modules`` are what is copied, each with its path below the folder of the sample. ``packages`` are those
    that its modules import, beside torch and the standard library, by the name of the import."""

    name: str
    spec: tuple[str, Path]
    modules: tuple[tuple[str, Path], ...]
    packages: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed here."""
        return tuple(name for name in self.packages if importlib.util.find_spec(name) is None)


def samples(root: Path | None = None) -> dict[str, Sample]:
    """Every sample by its name, the ``name`` of its spec. ``root`` holds configs/ and sample_models/."""
    root = root or _root()
    found = (_read(spec, root) for spec in sorted((root / "configs").glob("*.yaml")))
    return {sample.name: sample for sample in found}


def sample(name: str, root: Path | None = None) -> Sample:
    """The sample of that name; ``char_lstm`` and ``char_lstm.yaml`` are ``char-lstm`` too. Raises InputError for any other."""
    known = samples(root)
    asked = name.lower().removesuffix(".yaml").replace("_", "-")
    if asked in known:
        return known[asked]
    hint = nearest(asked, known)
    listed = "" if hint.startswith(" Known") else f" All samples: {', '.join(known)}."
    raise InputError(f"--sample {name}: there is no such sample.{hint}{listed}")


def _root() -> Path:
    here = Path(__file__).parent
    for root in (here, here.parents[2]):  # in a wheel, and in a checkout
        if (root / "configs").is_dir() and (root / MODELS).is_dir():
            return root
    raise InputError(
        "This installation of clipcal came without its samples. Install it again with `pip install --force-reinstall --no-deps clipcal`."
    )


def _read(spec: Path, root: Path) -> Sample:
    import yaml

    content = yaml.safe_load(spec.read_text(encoding="utf-8"))
    pending = [target.rsplit(".", 1)[0] for target in _targets(content)]
    modules: dict[str, Path] = {}
    packages: set[str] = set()
    while pending:
        module = pending.pop()
        top = module.partition(".")[0]
        if top != MODELS:
            packages.add(top)
            continue
        below = module.replace(".", "/")
        file = f"{below}/__init__.py" if (root / below).is_dir() else f"{below}.py"
        if file in modules or not (root / file).is_file():  # `from package import name` may name no module
            continue
        modules[file] = root / file
        pending += [MODELS, *_imports(root / file)]
    return Sample(
        name=content["name"],
        spec=(spec.name, spec),
        modules=tuple(sorted(modules.items())),
        packages=tuple(sorted(packages - {"torch"} - sys.stdlib_module_names)),
    )


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [node["_target_"]] if "_target_" in node else []
        return here + [target for value in node.values() for target in _targets(value)]
    return [target for value in node for target in _targets(value)] if isinstance(node, list) else []


def _imports(file: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def write_sample(sample: Sample, place: Path, *, force: bool = False) -> list[Path]:
    """The files, the spec first. ``place`` is a folder, or the spec's own path if it ends as a spec does.

    A file that already holds the same stays, since samples share modules. Raises InputError where one holds something else and
    ``force`` is not given, and where a file cannot be written.
    """
    named = place.suffix in (".yaml", ".yml")
    folder = place.parent if named else place
    name, spec = sample.spec
    wanted = {place if named else folder / name: spec.read_bytes()}
    wanted |= {folder / below: file.read_bytes() for below, file in sample.modules}
    changed = [path for path, content in wanted.items() if not _holds(path, content)]
    there = [path for path in changed if path.exists() or path.is_symlink()]
    for path in there:
        if not path.is_file():
            raise InputError(f"{path}: is there and is no ordinary file. Name another folder.")
    if there and not force:
        more = f", and {len(there) - 1} more," if len(there) > 1 else ""
        raise InputError(f"{there[0]}{more}: is there already. Name another folder, or replace it with --force.")
    written: list[Path] = []
    try:
        for path in changed:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path not in there
            write_whole(path, wanted[path], then="No new file is left.")
            written += [path] if fresh else []
    except (OSError, InputError) as e:
        for file in written:
            file.unlink(missing_ok=True)
        if isinstance(e, InputError):
            raise
        raise InputError(f"{path.parent}: cannot be made ({e.strerror or e}). Name another folder.") from None
    return list(wanted)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.read_bytes() == content
    except OSError:
        return False
