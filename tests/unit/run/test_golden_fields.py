"""Golden runs with a field less, or of another kind: an answer without it, or a sentence that names the file and the field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from golden.damaging import COMMANDS, OTHERS, changes, names, refusal, said, train_nothing
from golden.reading import copied, golden_runs, name_of

from clipcal.errors import InputError
from clipcal.recommendation.evidence import read_choice
from clipcal.run import records
from clipcal.run.directory import Run, open_run
from clipcal.run.records import FILES, SOURCES, read_record, wrong
from clipcal.views.figures.arms import arms

CONFIG = "gradient_clip_val: 1.0\n"
each_golden_run = pytest.mark.parametrize("golden", golden_runs(), ids=name_of)
one_of_each_source = pytest.mark.parametrize(
    "golden", [g for g in golden_runs() if g.name in ("calibrated", "script", "watched")], ids=name_of
)


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    train_nothing(monkeypatch)


def expected_wrong(name: str, value: dict[str, Any]) -> bool:
    """Whether the tables say that a file cannot be read."""
    schema, newest, table = FILES[name]
    if "schema" not in value:
        return name == "run.json"
    if records.schema_of(value["schema"], schema) != newest or wrong(value, table) is not None:
        return True
    if name != "run.json":
        return False
    return wrong(value["source"], SOURCES.get(value["source"].get("kind"), {})) is not None


READERS: Mapping[str, tuple[Callable[[Run], object], tuple[str, ...]]] = {
    "run.json": (lambda run: open_run(run.folder), tuple(COMMANDS)),
    "choice.json": (read_choice, tuple(COMMANDS)),
    "verification.json": (arms, ("report",)),
    "recommendation.json": (lambda run: read_record(run.recommendation, todo="Read it again."), ()),
}
"""What reads a file, and which commands do, beside `runs`, which reads them all."""


def failures(golden: Path, name: str, commands: tuple[str, ...], others: tuple[Any, ...] = OTHERS) -> Iterator[str]:
    """A field that is removed goes through every command; of other kinds one call speaks for all, since all read by the same table."""
    with copied(golden) as folder:
        Path("conf.yaml").write_text(CONFIG, encoding="utf-8")
        run, path = open_run(folder), folder / name
        whole = json.loads(path.read_text(encoding="utf-8"))
        for change in changes(whole, others=others):
            path.write_text(json.dumps(change.value), encoding="utf-8")
            bad = expected_wrong(name, change.value)
            if change.how != "removed":
                told = _refused_by(READERS[name][0], run)
                if (told is not None) is not bad or not names(told or "", name, change.field if bad else None):
                    yield f"{change}: {told}"
                if change.how != "is 5":
                    continue
            for command in commands if change.how == "removed" and bad else commands[:1] if bad else ():
                found = said(command, folder, *COMMANDS[command])
                what = refusal(found, name, change.field)
                if what is not None:
                    yield f"{command}: {change}: {what}"
            (row,) = json.loads(said("runs", "runs", "--json").stdout)["runs"]
            if (name in row["unreadable"]) is not bad or not names(
                str(row["problem"]), name, change.field if bad else None
            ):
                yield f"runs: {change}: {row['unreadable']}, {row['problem']}"
            for command in commands if not bad and change.how == "removed" else ():
                found = said(command, folder, *COMMANDS[command])
                # what is needed to train again is asked for when it is about to be
                if found.code not in (0, 3) and not (
                    command == "verify" and refusal(found, name, change.field) is None
                ):
                    yield f"{command}: {change}: {found}"


def _refused_by(reader: Callable[[Run], object], run: Run) -> str | None:
    try:
        reader(run)
    except InputError as e:
        return str(e)
    return None


# The files that are one object


@one_of_each_source
def test_run_json_of_other_kinds(golden: Path) -> None:
    commands = [c for c in COMMANDS if c != "verify" or golden.name != "watched"]  # which cannot be trained again
    assert list(failures(golden, "run.json", tuple(commands))) == []


@each_golden_run
def test_run_json_with_a_field_less(golden: Path) -> None:
    if golden.name in ("calibrated", "script", "watched"):
        return  # above, by every command
    assert list(failures(golden, "run.json", ("recommend",), ())) == []


@pytest.mark.parametrize("name", ["recommendation.json", "verification.json", "choice.json"])
@each_golden_run
def test_records_of_other_kinds(golden: Path, name: str) -> None:
    if (golden / "run" / name).exists():
        assert list(failures(golden, name, READERS[name][1])) == []


@pytest.mark.parametrize("name", ["run.json", "verification.json", "choice.json"])
@each_golden_run
def test_a_value_of_another_kind_is_refused_whatever_the_tables_say(golden: Path, name: str) -> None:
    """The kinds that the golden run itself holds are the measure here: text for a number, a number for text, an object for null."""
    if not (golden / "run" / name).exists():
        return
    for_people = ("helped", "seeds", "candidates") if name != "run.json" else ()  # no reader looks at them
    with copied(golden) as folder:
        run, path = open_run(folder), folder / name
        whole = json.loads(path.read_text(encoding="utf-8"))
        for key in (k for k in whole if k not in for_people):
            other: Any = {} if whole[key] is None else 5 if isinstance(whole[key], str) else "a word"
            path.write_text(json.dumps(whole | {key: other}), encoding="utf-8")
            told = _refused_by(READERS[name][0], run)
            assert names(told or "", name, key), f"{key} is {other!r}: {told}"
