"""A survey on wide and narrow terminals, and in words: the numbers of its rows, nothing cut."""

from __future__ import annotations

import re

import pytest

from clipcal.surveying.row import Row
from clipcal.surveying.survey import Survey
from clipcal.views.terminal.surveyview import spoken, survey
from clipcal.views.words import SURVEY_HEAD

BRAKED = Row(
    path="team/ada/checkpoint-400/trainer_state.json",
    format="Hugging Face trainer_state.json",
    name="ada",
    rows=400,
    verdict="heavy_tail",
    median=0.981,
    spikes=1,
    nonfinite=0,
    in_use=0.3,
    state="does not fit",
    fits=False,
    acts=1.0,
    takes=0.69,
    method="value",
    max_norm=2.2,
)
UNKNOWN = Row(
    path="team/b.csv", format="table", name="b", rows=1234, verdict="insufficient", spikes=0, state="none known"
)
LOST = Row(path="team/c.log", name="c", problem="team/c.log: is empty. Name the log of a training run.")
NOTHING = {"other": 0, "content": 0, "older": 0, "links": 0, "folders": 0}
FOUND = Survey(
    folders=("team",), rows=(BRAKED, UNKNOWN, LOST), passed_over=NOTHING | {"links": 1}, notes=("It ended.",)
)


def lines(width: int | None, most: int | None = None) -> list[str]:
    return [line.plain for line in survey(FOUND, most=most, width=width, ascii=True)]


def test_a_pipe_has_one_line_a_row() -> None:
    head, _, names, braked, unknown, _, *below = lines(None)
    assert head == "3 logs and runs: 1 does not fit, 1 not known, 1 unreadable"
    assert re.split(r"\s{2,}", names.strip()) == list(SURVEY_HEAD)
    assert re.split(r"\s{2,}", braked.strip()) == [
        *("does not fit", "0.3", "100%", "69%", "2.2 by value", "heavy tail", "0.981", "1", "400"),
        *(BRAKED.format, BRAKED.name, BRAKED.path),
    ]
    assert unknown.split()[:6] == ["none", "known", "-", "-", "-", "none"]
    assert below == [f"  - {LOST.problem}", "  - Passed over: 1 link.", "  - It ended."]


@pytest.mark.parametrize("width", [100, 80, 50, 30])
def test_on_a_narrow_terminal_nothing_is_cut_and_no_line_is_too_long(width: int) -> None:
    found = lines(width)
    table = found[2 : found.index("", 2)]
    assert all(len(line) <= width for line in table)
    text = "".join("".join(table).split())
    for part in (BRAKED.path, "0.981", "1,234", "heavytail", "2.2byvalue"):
        assert part in text


def test_what_is_not_shown_is_counted() -> None:
    assert "  and 1 row more; --all shows them, --csv and --html write them" in lines(None, most=1)
    assert spoken(FOUND, most=1)[2] == "and 1 row more; --all shows them, --csv and --html write them"


def test_in_words() -> None:
    said = spoken(FOUND, most=None)
    assert said[1] == (
        "team/ada/checkpoint-400/trainer_state.json: threshold in use 0.3, does not fit, acts on 100% of the ordinary steps, takes 69% of "
        "their length, recommended 2.2 by value, heavy tail, stable median 0.981, 1 spike, 400 rows, Hugging Face trainer_state.json, run ada"
    )
    assert (
        said[2]
        == "team/b.csv: no threshold in use is known, recommended none, insufficient, 0 spikes, 1,234 rows, table, run b"
    )
    assert said[3:] == [LOST.problem, "Passed over: 1 link.", "It ended."]
