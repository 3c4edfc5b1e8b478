"""The text around the threshold stays as it is to the last character, and hostile files end in a sentence, soon."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pace import loops

from clipcal.errors import InputError, MissingPackage
from clipcal.frameworks.applying.files import MAX_BYTES
from clipcal.frameworks.applying.planning import diff, plan

MOST = 100
"""Loops of a million additions that a text made to be slow may take: seconds, where a slip is minutes."""


def applied(folder: Path, name: str, text: str, **options: Any) -> str:
    file = folder / name
    file.write_bytes(text.encode())
    return plan(file, **{"max_norm": 2.4} | options).new_text


def refused(folder: Path, name: str, text: str | bytes, **options: Any) -> str:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as no:
        plan(file, **{"max_norm": 2.4} | options)
    assert "\n" not in str(no.value)
    return str(no.value).replace(str(file), "FILE")


AWKWARD = {
    "comments, quotes, order, widths": (
        "a.yaml",
        "# top\n\nb:   'quoted'   # why\na: \"x\"\nmax_grad_norm :  1.0  # two\n\n\nlong: " + "word " * 60 + "\nz: [1,2,   3]\n",
        "max_grad_norm :  1.0",
        "max_grad_norm :  2.4",
    ),
    "anchors and merges": (
        "a.yaml",
        "base: &base {lr: 1.0e-3}\nrun:\n    <<: *base\n    max_grad_norm: &clip 1.0   # named\n",
        "&clip 1.0",
        "&clip 2.4",
    ),
    "a comment behind an anchor": ("a.yaml", "max_grad_norm: &c  # why\n  1.0\n", "  1.0", "  2.4"),
    "tags that nobody here knows": (
        "a.yaml",
        "model: !new:torch.nn.Linear [1, 2]\nobj: !!python/object/apply:os.system ['true']\nmax_grad_norm: 5.0\n",
        "5.0",
        "2.4",
    ),
    "lists without indentation": ("a.yaml", "x:\n- a\n-   b\nmax_grad_norm: 1\n", "m: 1", "m: 2.4"),
    "block scalars that look like it": (
        "a.yaml",
        "doc: |\n  max_grad_norm: 1.0\n  # no comment\nmax_grad_norm: 1.0\n",
        "comment\nmax_grad_norm: 1.0",
        "comment\nmax_grad_norm: 2.4",
    ),
    "an end marker": ("a.yaml", "%YAML 1.2\n---\nmax_grad_norm: 1.0\n...\n", "1.0", "2.4"),
    "carriage returns": ("a.yaml", "a: 1\r\nmax_grad_norm: 1.0\r\nb: 2\r\n", "1.0", "2.4"),
    "no last line break": ("a.yaml", "a: 1\nmax_grad_norm: 1.0", "1.0", "2.4"),
    "a byte order mark": ("a.yaml", "\ufeffmax_grad_norm: 1.0\n", "1.0", "2.4"),
    "other scripts": ("a.yaml", "имя: '値'  # ü\n😀: 1\nmax_grad_norm: 1.0\n", "m: 1.0", "m: 2.4"),
    "several documents": ("a.yaml", "a: 1\n---\nmax_grad_norm: 1.0\n---\nb: 1\n", "1.0", "2.4"),
    "json with tabs": ("a.json", '{\n\t"b" : [1,2],\n\t"max_grad_norm"  :1.0,"a":{}\n}', ":1.0", ":2.4"),
    "json in one line": ("a.json", '{"a":"\\u00fc","max_grad_norm":1.0E+0}', "1.0E+0", "2.4"),
    "json with comments": (
        "a.jsonc",
        '// "max_grad_norm": 1.0\n{\n  "u": "http://x", /* "max_grad_norm": 1.0 */ "max_grad_norm": 1.0,\n}\n',
        '*/ "max_grad_norm": 1.0',
        '*/ "max_grad_norm": 2.4',
    ),
    "json with a byte order mark": ("a.json", '\ufeff{"max_grad_norm": null}\r\n', "null", "2.4"),
    "json with NaN": ("a.json", '{"a": NaN, "b": -Infinity, "max_grad_norm": 1}', "m\": 1", "m\": 2.4"),
    "toml strings of all kinds": (
        "a.toml",
        "a = \"\"\"\nmax_grad_norm = 1.0\n\\\"\"\"\" # \"\nb = '''\n[t]'''\nc = 'max_grad_norm = 1'\nd = \"\\\"#\" # max_grad_norm = 1.0\n"
        "max_grad_norm = 1.0 # x\n[t]\n'e.f'.g = 1979-05-27 07:32:00\n",
        "max_grad_norm = 1.0 # x",
        "max_grad_norm = 2.4 # x",
    ),
    "toml tables and dotted keys": (
        "a.toml",
        "[[run]]\nname = 'a'\n[run.optim]\nlr = [\n  1, # one\n  2,\n]\n[[run]]\noptim.inner.max_grad_norm = 1.0\noptim.lr = 3\n",
        "norm = 1.0",
        "norm = 2.4",
    ),
    "toml inline": ("a.toml", "train = { lr = 1e-3, clip.max_grad_norm = 1, x = {} }\r\n", "norm = 1,", "norm = 2.4,"),
}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_only_the_number_changes(tmp_path: Path, name: str) -> None:
    file, text, old, new = AWKWARD[name]
    assert text.count(old) == 1
    assert applied(tmp_path, file, text) == text.replace(old, new)


ADDED = {
    "after the last short value": ("a.yaml", "a: 1 # c\nb:\n  - 1\n# d\n", "t", "a: 1 # c\nt: 2.4\nb:\n  - 1\n# d\n"),
    "before what is nested": ("a.yaml", "b:\n  - 1\n# d\n", "t", "t: 2.4\nb:\n  - 1\n# d\n"),
    "within a list": ("a.yaml", "l:\n-   b:\n      c: 1\n", "l.0.t", "l:\n-   t: 2.4\n    b:\n      c: 1\n"),
    "behind a block scalar": ("a.yaml", "a: |\n  x\n\n  y\n", "t", "t: 2.4\na: |\n  x\n\n  y\n"),
    "behind a long value": ("a.yaml", "a: one\n  two # c\n", "t", "a: one\n  two # c\nt: 2.4\n"),
    "below an anchor": ("a.yaml", "a: &x\n  b: {}\nc: *x\n", "a.t", "a: &x\n  b: {}\n  t: 2.4\nc: *x\n"),
    "beside a merge": ("a.yaml", "a: &x {b: 1}\nc:\n  <<: *x\n", "c.t", "a: &x {b: 1}\nc:\n  <<: *x\n  t: 2.4\n"),
    "with carriage returns": ("a.yaml", "a: 1\r\nb: 2", "t", "a: 1\r\nb: 2\r\nt: 2.4"),
    "behind an explicit key": ("a.yaml", "? a\n: b\n", "t", "? a\n: b\nt: 2.4\n"),
    "into an empty flow": ("a.yaml", "a: {}  # c\n", "a.t", 'a: {"t": 2.4}  # c\n'),
    "into a flow": ("a.yaml", "a: {b: 1, c: [2] }\n", "a.t", "a: {b: 1, c: [2], t: 2.4 }\n"),
    "a word that YAML takes for something else": ("a.yaml", "a: 1\n", "yes", 'a: 1\n"yes": 2.4\n'),
    "into an empty object": ("a.json", "{}\n", "t", '{"t": 2.4}\n'),
    "into one line": ("a.json", '{"a": 1}', "t", '{"a": 1, "t": 2.4}'),
    "into a dense line": ("a.json", '{"a":1,"b":{}}', "t", '{"a":1,"b":{},"t":2.4}'),
    "before a last comma": ("a.jsonc", '{\n "a": 1, // c\n}', "t", '{\n "a": 1,\n "t": 2.4, // c\n}'),
    "a key with quotes": ("a.json", '{\r\n  "a": {}\r\n}', "'x\"y'", '{\r\n  "a": {},\r\n  "x\\"y": 2.4\r\n}'),
    "to the end of a table": ("a.toml", "[a]\n\tb = 1 # c\n\n[d]\n", "a.t", "[a]\n\tb = 1 # c\n\tt = 2.4\n\n[d]\n"),
    "to an empty table": ("a.toml", "[a] # c\n[d]\n", "a.t", "[a] # c\nt = 2.4\n[d]\n"),
    "to the top": ("a.toml", "# c\n[a]\nb = 1\n", "t", "t = 2.4\n# c\n[a]\nb = 1\n"),
    "to a table without a header": ("a.toml", "[a.b]\nc = 1\n", "a.t", "[a.b]\nc = 1\n\n[a]\nt = 2.4\n"),
    "to a table without a header or an end": ("a.toml", "[a.b]\nc = 1", "a.t", "[a.b]\nc = 1\n\n[a]\nt = 2.4"),
    "beside a dotted key": ("a.toml", "[x]\na.b = 1\n[y]\n", "x.a.t", "[x]\na.b = 1\na.t = 2.4\n[y]\n"),
    "to the second of two": ("a.toml", "[[x]]\n[[x]]\na = 1\n[y]\n", "x.1.t", "[[x]]\n[[x]]\na = 1\nt = 2.4\n[y]\n"),
    "into an inline table": ("a.toml", "a = {b=1}\n", "a.t", "a = {b=1, t=2.4}\n"),
    "a key with a dot": ("a.toml", "a = 1\n", "'x.y'", 'a = 1\n"x.y" = 2.4\n'),
}


@pytest.mark.parametrize("name", ADDED)
def test_a_new_key_stands_as_its_neighbours_do(tmp_path: Path, name: str) -> None:
    file, text, key, wanted = ADDED[name]
    assert applied(tmp_path, file, text, key=key) == wanted


KEPT = {
    "carriage returns": ("a = 1\r\n[b] # c\r\n[d]\r\n", "b.t", "a = 1\r\n[b] # c\r\nt = 2.4\r\n[d]\r\n"),
    "carriage returns, without a header": ("[a.b]\r\nc = 1\r\n", "a.t", "[a.b]\r\nc = 1\r\n\r\n[a]\r\nt = 2.4\r\n"),
    "a comment above the next table": ("[a]\nx = [\n 1, # 2\n]\n\n# of b\n[b]\n", "a.t", "[a]\nx = [\n 1, # 2\n]\nt = 2.4\n\n# of b\n[b]\n"),
    "an array of tables": ("[[b]]\n[b.c.d]\n[[b]]\n", "b.0.c.t", "[[b]]\n[b.c]\nt = 2.4\n\n[b.c.d]\n[[b]]\n"),
    "dotted keys, quoted": ("  'y.z' . \"w\" = 1\n", "'y.z'.t", "  'y.z' . \"w\" = 1\n  'y.z' . t = 2.4\n"),
    "inline, in a list": ("x = [1, # 2\n {z=true}]\n", "x.1.t", "x = [1, # 2\n {z=true, t=2.4}]\n"),
    "an element of a list": ("x = [1, # 2\n 2]\n", "x.1", "x = [1, # 2\n 2.4]\n"),
    "tables out of order": ("[a.b]\nx=1\n[c]\n[a.d]\ny=1\n", "a.b.t", "[a.b]\nx=1\nt = 2.4\n[c]\n[a.d]\ny=1\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_toml_keeps_every_other_character(tmp_path: Path, name: str) -> None:
    text, key, wanted = KEPT[name]
    assert applied(tmp_path, "a.toml", text, key=key) == wanted


def test_what_tomlkit_would_put_in_another_order_is_refused(tmp_path: Path) -> None:
    text = "[[x]]\nmax_grad_norm = 1\n[y]\n[[x]]\n"
    assert "Write the number by hand" in refused(tmp_path, "a.toml", text, key="x.0.max_grad_norm")


def test_what_tomlkit_does_not_read_ends_in_a_sentence(tmp_path: Path) -> None:
    text = "max_grad_norm = 1\n[[a.b]]\n[c]\n[a . b . d]\ne = 1\n"
    assert tomllib.loads(text)["a"] == {"b": [{"d": {"e": 1}}]}
    assert "FILE:1:1: " in refused(tmp_path, "a.toml", text)


def test_toml_without_tomlkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    file = tmp_path / "a.toml"
    file.write_text("max_grad_norm = 1.0\n")
    with pytest.raises(MissingPackage, match=r"a\.toml is TOML, .* Run pip install 'clipcal\[toml\]'$") as missing:
        plan(file, max_norm=2.4)
    assert (missing.value.exit_code, missing.value.name) == (2, "tomlkit")
    assert "2.4" in applied(tmp_path, "a.yaml", "max_grad_norm: 1.0\n")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "a: [1\n", "FILE:2:1: not valid YAML: "),
        ("a.yaml", "a: 1\n\tb: 2\n", "FILE:2:"),
        ("a.yaml", "a: *nope\n", "FILE:1:4: not valid YAML: the alias *nope has no anchor."),
        ("a.yaml", "a: \x07\n", "not valid YAML"),
        ("a.json", '{"a": 1,, }', "FILE:1:9: not valid JSON"),
        ("a.json", "", "FILE:1:1: not valid JSON"),
        ("a.json", '{"a": "', "FILE:1:7: not valid JSON"),
        ("a.toml", "a = 1\na = 2\n", "FILE:2:6: not valid TOML: Cannot overwrite a value."),
        ("a.toml", "a = ", "FILE:1:5: not valid TOML"),
        ("a.toml", 'a = """', "not valid TOML"),
        ("a.yaml", b"\xff\xfea\x00", "is not UTF-8 text"),
        ("a.json", b'{"a": "\xe9"}', "is not UTF-8 text"),
        ("a.yaml", b"a: \0", "holds zero bytes"),
        ("a.json", "9" * 5000, "a value cannot be read"),
    ],
)
def test_a_broken_file_is_named_with_its_place(tmp_path: Path, name: str, text: str | bytes, words: str) -> None:
    assert words in refused(tmp_path, name, text)


AT_THE_COMMA = sys.version_info >= (3, 13)  # before, the standard library points at the bracket behind it
LOOSE = {
    "a last comma": ('{"max_grad_norm": 1.0,}', "FILE:1:22: " if AT_THE_COMMA else "FILE:1:23: "),
    "a last comma in a list": ('{"max_grad_norm": 1.0, "a": [1,\n]}', "FILE:1:31: " if AT_THE_COMMA else "FILE:2:1: "),
    "a comment": ('{\n// why\n"max_grad_norm": 1.0}', "FILE:2:1: "),
    "a comment before all": ('/* mine */ {"max_grad_norm": 1.0}', "FILE:1:1: "),
}


@pytest.mark.parametrize(("text", "place"), LOOSE.values(), ids=LOOSE)
def test_json_with_comments_or_last_commas_goes_by_another_ending(tmp_path: Path, text: str, place: str) -> None:
    message = refused(tmp_path, "a.json", text)
    assert message.startswith(place), message
    assert "not valid JSON" in message
    assert ".jsonc" in message
    assert "comma" in message
    for name in ("a.jsonc", "a.json5"):
        assert applied(tmp_path, name, text) == text.replace("1.0", "2.4")


def test_deepspeed_reads_json_with_comments(tmp_path: Path) -> None:
    text = '{\n  "train_micro_batch_size_per_gpu": 4, // of 8\n  "gradient_clipping": 1.0,\n}\n'
    assert applied(tmp_path, "ds.json", text) == text.replace("1.0", "2.4")
    unmarked = '{"gradient_clipping": 1.0,}'
    assert "not valid JSON" in refused(tmp_path, "ds.json", unmarked)
    assert applied(tmp_path, "ds.json", unmarked, framework="deepspeed") == unmarked.replace("1.0", "2.4")


def test_what_json5_alone_can_say_is_refused(tmp_path: Path) -> None:
    assert "FILE:1:2: not valid JSON" in refused(tmp_path, "a.json5", "{max_grad_norm: 1.0}")


def test_a_billion_laughs_stay_unread(tmp_path: Path) -> None:
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    lines += [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}' if i else '{x: 1}'] * 9)}]}}" for i in range(40)]
    text = "\n".join([*lines, "loop: &loop {again: *loop}", "max_grad_norm: 1.0", ""])

    def read() -> None:
        assert applied(tmp_path, "a.yaml", text) == text.replace("norm: 1.0", "norm: 2.4")
        assert "is an alias" in refused(tmp_path, "a.yaml", text, key="loop.again.again.again")

    assert loops(read) < MOST


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "[" * 100_000),
        ("a.yaml", "{a: " * 50_000),
        ("a.yaml", "- " * 50_000),
        ("a.yaml", "a:\n" + "".join(" " * i + "a:\n" for i in range(1, 600))),
        ("a.json", "[" * 100_000),
        ("a.json", "[" * 150 + "]" * 150),
        ("a.json", '{"a":' * 500 + "1" + "}" * 500),
        ("a.toml", "a = " + "[" * 100_000),
        ("a.toml", "a = " + "[" * 150 + "]" * 150),
        ("a.toml", "[" + "a." * 100_000 + "a]\n"),
        ("a.toml", "a." * 300 + "a = 1\n"),
    ],
)
def test_deep_nesting_ends_in_a_sentence(tmp_path: Path, name: str, text: str) -> None:
    def read() -> None:
        message = refused(tmp_path, name, text)
        assert "deep" in message or "a key of thousands of characters" in message

    assert loops(read) < MOST


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '"' + '\\"' * 100_000),
        ("a.json", "/*" * 100_000),
        ("a.json", "," + " " * 200_000),
        ("a.yaml", "max_grad_norm: 1\n" * 12_000),
        ("a.yaml", "!" * 200_000),
        ("a.toml", "".join(f"[t{i}]\na = 1\n" for i in range(5_000))),  # tomlkit takes its time, for each table alike
    ],
)
def test_texts_made_to_be_slow_are_not(tmp_path: Path, name: str, text: str) -> None:
    assert loops(lambda: refused(tmp_path, name, text)) < MOST


def test_what_is_too_big_is_not_read(tmp_path: Path) -> None:
    assert "a config has at most" in refused(tmp_path, "a.json", " " * (MAX_BYTES + 1))


def test_other_uses_of_a_value_are_said(tmp_path: Path) -> None:
    text = "defaults: &d\n  max_grad_norm: 1.0\na:\n  <<: *d\nb: *d\n"
    file = tmp_path / "a.yaml"
    file.write_text(text)
    made = plan(file, max_norm=2.4)
    assert made.new_text == text.replace("1.0", "2.4")
    assert "used again through *d (line 4, 5)" in made.warnings[0]
    assert yaml.safe_load(made.new_text)["a"] == {"max_grad_norm": 2.4}


def test_an_alias_becomes_a_number_of_its_own(tmp_path: Path) -> None:
    text = "limit: &l 1.0\nmax_grad_norm: *l\n"
    file = tmp_path / "a.yaml"
    file.write_text(text)
    made = plan(file, max_norm=2.4)
    assert yaml.safe_load(made.new_text) == {"limit": 1.0, "max_grad_norm": 2.4}
    assert "was *l" in made.warnings[0]


def test_behind_an_alias_the_place_of_the_value_is_named(tmp_path: Path) -> None:
    text = "x:\n  shared: &s {max_grad_norm: 1.0}\na: *s\n"
    message = refused(tmp_path, "a.yaml", text, key="a.max_grad_norm")
    assert "a is an alias; what it holds stands under x.shared" in message
    assert "--key x.shared.max_grad_norm" in message


def test_documents_that_could_both_be_meant(tmp_path: Path) -> None:
    text = "max_grad_norm: 1\n---\nmax_grad_norm: 2\n"
    assert "2 documents" in refused(tmp_path, "a.yaml", text)
    assert "could be in 2 of them" in refused(tmp_path, "a.yaml", text, key="max_grad_norm")
    assert "none of them with a threshold" in refused(tmp_path, "a.yaml", "a: 1\n---\nb: 1\n")
    text = "x: {max_grad_norm: 1}\n---\nx: 2\n"
    assert applied(tmp_path, "a.yaml", text, key="x.max_grad_norm") == text.replace("1}", "2.4}")


@pytest.mark.parametrize(
    "max_norm", [2.4, 3.0, 100.0, 0.00012, 1e-5, 1.2e-7, 1e16, 1e22, 5e-324, 1.7976931348623157e308]
)
def test_numbers_mean_the_same_in_every_format(tmp_path: Path, max_norm: float) -> None:
    texts = {"a.yaml": "max_grad_norm: 1", "a.json": '{"max_grad_norm": 1}', "a.toml": "max_grad_norm = 1"}
    new = {name: applied(tmp_path, name, text, max_norm=max_norm) for name, text in texts.items()}
    read = [yaml.safe_load(new["a.yaml"]), json.loads(new["a.json"]), tomllib.loads(new["a.toml"])]
    assert [(type(r["max_grad_norm"]), r["max_grad_norm"]) for r in read] == [(float, max_norm)] * 3


def test_the_diff_has_the_line_and_its_neighbours(tmp_path: Path) -> None:
    lines = [f"k{i}: {i}" for i in range(2000)]
    lines[1200] = "max_grad_norm: 1.0"
    file = tmp_path / "a.yaml"
    file.write_bytes("\r\n".join(lines).encode())
    assert diff(plan(file, max_norm=2.4)).splitlines() == [
        f"--- {file}",
        f"+++ {file}",
        "@@ -1198,7 +1198,7 @@",
        *(f" k{i}: {i}" for i in (1197, 1198, 1199)),
        "-max_grad_norm: 1.0",
        "+max_grad_norm: 2.4",
        *(f" k{i}: {i}" for i in (1201, 1202, 1203)),
    ]


def test_the_diff_of_lines_that_are_all_alike_is_short(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("max_grad_norm = 1.0\n" + "[[x]]\n" * 5000)
    assert len(diff(plan(file, max_norm=2.4)).splitlines()) == 8


def test_the_diff_does_not_act_on_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[2J\n.json"
    file.write_text('{"max_grad_norm": 1.0, "a": "\u202e\u009b"}')
    shown = diff(plan(file, max_norm=2.4))
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert len(shown.splitlines()) == 5


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("a.yaml", "x: {max_grad_norm, a: 1}\n", "x.max_grad_norm"),
        ("a.yaml", "? max_grad_norm\n? a\n", "max_grad_norm"),
        ("a.toml", "x = {a.b = 1}\n", "x.a.c"),
    ],
)
def test_an_edit_that_would_change_anything_else_is_refused(tmp_path: Path, name: str, text: str, key: str) -> None:
    message = refused(tmp_path, name, text, key=key)
    assert f"{key} cannot be set here without touching something else" in message
    assert "= 2.4 there by hand" in message
