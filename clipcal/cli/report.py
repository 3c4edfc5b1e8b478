"""``clipcal report``: a run or a log -> one HTML page to look at and to send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipcal.cli import options
from clipcal.cli.answering import print_json, said_no

PageFile = Annotated[
    Path | None, typer.Option("--out", "-o", help="The file.  [default: RUN/report.html; LOG.report.html]")
]


@options.flags("source out tag run pattern json force quiet")
def report(
    source: options.RunOrLog,
    out: PageFile = None,
    *,
    within: options.Within,
    display: options.Display,
    force: options.Force = False,
) -> None:
    """Write one self-contained HTML page: the answer, the snippet, the pictures and the evidence.

    It asks nothing of any network, and can be sent as it is. Prints the file's path.
    """
    with said_no():
        from clipcal.views.html.writing import write_report

        path, view = write_report(source, out, within, force=force)
        if display.json:
            r = view.recommendation
            print_json({"schema": "clipcal.report/1", "path": str(path), "verdict": r.verdict, "max_norm": r.max_norm})
        else:
            print(path)
            megabytes = path.stat().st_size / 1e6
            display.note(f"wrote {path}: {megabytes:.2f} MB, open it in any browser")
