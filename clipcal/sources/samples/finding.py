"""A sample's name -> its files: the spec, and those modules of sample_models that the spec's imports lead to.

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
