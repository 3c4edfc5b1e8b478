"""The one table of frameworks: behind ``--for``, what `apply` recognises and writes, its conflicts, and the docs."""

from __future__ import annotations

from clipcal.errors import InputError, nearest
from clipcal.frameworks.applying.tree import Node
from clipcal.frameworks.entries import huggingface, language, loops, others
from clipcal.frameworks.record import Config, Framework

# Several names may share a config, which goes by the first of them. The config that any trainer of Hugging Face reads is the most general.
FRAMEWORKS: dict[str, Framework] = {
    **huggingface.FRAMEWORKS,
    **loops.FRAMEWORKS,
    **language.FRAMEWORKS,
    **others.FRAMEWORKS,
}
CONFIGS: dict[str, Config] = {}
"""The configs that `apply` knows, by the name that they go by: from the general to the particular."""
for _name, _entry in FRAMEWORKS.items():
    if _entry.config and _entry.config not in CONFIGS.values():
        CONFIGS[_name] = _entry.config


def resolve(name: str) -> str:
    """The key of ``FRAMEWORKS`` behind a name or an alias, in any case, with ``_`` or ``-``.

    What has a config goes by its name with ``-yaml`` or ``-toml`` behind it too. Raises InputError, with the nearest name,
    for anything else.
    """
    wanted = name.strip().lower().replace("_", "-")
    names = {alias: key for key, entry in FRAMEWORKS.items() for alias in (key, *entry.aliases)}
    if wanted in names:
        return names[wanted]
    bare = names.get(wanted.removesuffix("-yaml").removesuffix("-toml"))
    if bare and FRAMEWORKS[bare].config:
        return bare
    # A near miss may be an alias; without one, only the names themselves are listed.
    hint = nearest(wanted, names)
    hint = hint if hint.startswith(" Did you mean") else nearest("", FRAMEWORKS)
    raise InputError(f"There is no framework named {name!r}.{hint}")


def config_of(name: str) -> str:
    """The key of ``CONFIGS`` behind a name of any kind. Raises InputError where its framework is not set in a config file."""
    key = resolve(name)
    entry = FRAMEWORKS[key]
    if entry.config is None:
        in_file = f" For its config files: --for {key}-yaml." if f"{key}-yaml" in FRAMEWORKS else ""
        raise InputError(
            f"{entry.title}: there is no key for the threshold in a config file. `clipcal recommend RUN --for {key}` prints "
            f"the lines to paste.{in_file}"
        )
    return next(name for name, config in CONFIGS.items() if config is entry.config)


def recognise(root: Node) -> str | None:
    """The key of ``CONFIGS`` that a file is written for, None where its content does not tell. The particular go first."""
    return next((name for name, config in reversed(CONFIGS.items()) if config.fits(root)), None)
