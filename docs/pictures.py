"""Configs and the benchmarks' results -> the pictures of these pages and of the README: `python docs/pictures.py [NAME ...]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from drawing.measured import interval, regret
from drawing.norms import gap, overview
from drawing.sheet import Draw, draw
from drawing.training import harm, race, readme

PICTURES: Mapping[str, Draw] = {
    "readme": readme,
    "overview": overview,
    "gap": gap,
    "harm": harm,
    "race": race,
    "interval": interval,
    "regret": regret,
}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(PICTURES)}")
    names = parser.parse_args(argv).names
    unknown = [name for name in names if name not in PICTURES]
    if unknown:
        parser.error(f"there is no picture {unknown[0]!r}: name one of {', '.join(PICTURES)}")
    for name in names or PICTURES:
        print(os.path.relpath(draw(name, PICTURES[name])))


if __name__ == "__main__":
    main(sys.argv[1:])
