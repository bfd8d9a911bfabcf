"""JSON of our own folders: whatever became of a file, the error names it and says what to do."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

from tfkd.errors import CheckpointError, RecordError
from tfkd.storage.json_files import (
    dataclass_of,
    parse_json,
    read_dataclass_lines,
    read_json_lines,
    read_json_object,
    read_json_rows,
)

DAMAGE = {
    "empty": (b"", "is not JSON"),
    "cut": (b'{"epochs": 3, "wer', "is not JSON"),
    "zeros": (b"\0" * 64, "is not JSON"),
    "not text": (b'{"epochs": "\xff"}', "is not JSON"),
    "another type": (b"[1, 2]", "holds an array, not an object"),
    "null": (b"null", "holds null, not an object"),
    "number": (b"17", "holds 17, not an object"),
    "deep": (b"[" * 100_000, "is not JSON: nested too deeply"),
    "digits": (b'{"epochs": ' + b"9" * 5000 + b"}", "is not JSON"),
    "field missing": (b"{}", "lacks epochs"),
    "field of another type": (b'{"epochs": "3"}', "holds a text as epochs"),
    "truth": (b'{"epochs": true}', "holds True as epochs"),
}
each_damage = pytest.mark.parametrize(
    ("content", "message"), DAMAGE.values(), ids=[name.replace(" ", "-") for name in DAMAGE]
)


@each_damage
def test_a_damaged_object_is_named_with_a_remedy(tmp_path, content, message):
    path = tmp_path / "complete.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_json_object(path, {"epochs": int}, error=CheckpointError)
    assert str(caught.value).startswith(f"{path}: ")
    assert "(delete it and run the command that wrote it again)" in str(caught.value)


@each_damage
def test_a_damaged_line_is_named_with_its_number(tmp_path, content, message):
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"epochs": 1}\n' + (content or b"\n"))
    with pytest.raises(RecordError, match=f"history.jsonl: line 2 .*{message}"):
        list(read_json_lines(path, {"epochs": int}))


@pytest.mark.parametrize(
    ("text", "where"),
    [('{"a": 1 "b": 2}\n', "column 9"), ('{"a": 1,\n "b" 2}', "line 2 column 6 .*")],
)
def test_a_text_of_one_line_is_told_the_column_alone(text, where):
    with pytest.raises(ValueError, match=f"is not JSON: Expecting '.' delimiter: {where}$"):
        parse_json(text)


def test_arrays_of_objects(tmp_path):
    path = tmp_path / "parity.json"
    path.write_text('[{"format": "savedmodel"}]')
    assert read_json_rows(path, {"format": str}) == [{"format": "savedmodel"}]
    for text, message in {
        "{}": "an object, not an array",
        "[[]]": "an array, not an object",
        '[{"format": 1}]': "holds 1 as format",
        "": "is not JSON",
    }.items():
        path.write_text(text)
        with pytest.raises(RecordError, match=message):
            read_json_rows(path, {"format": str})


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(RecordError, match="cannot read: "):
            read_json_object(path)


@dataclass(frozen=True)
class Row:
    name: str
    seconds: float
    text: str | None = None
    counts: tuple[int, ...] = ()


def test_dataclasses_are_read_strictly(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"name": "a", "seconds": 3}\n{"name": "b", "seconds": 0.5, "text": null}\n')
    assert list(read_dataclass_lines(path, Row)) == [Row("a", 3), Row("b", 0.5)]
    for row, message in [({"name": "a"}, "lacks seconds"), ({"name": 1, "seconds": 1}, "1 as name"),
                         ({"name": "a", "seconds": 1, "txt": ""}, "an unknown field txt"),
                         ({"name": "a", "seconds": 1, "text": 7}, "holds 7 as text"),
                         ([], "holds an array, not an object")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            dataclass_of(Row, row)


def test_json_is_parsed_nowhere_else():
    """Other calls forget that a file can be empty, cut, foreign or nested too deeply."""
    package = Path(__file__).parents[2] / "tfkd"
    found = [
        path.relative_to(package).as_posix()
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("loads", "load")
        if isinstance(node.value, ast.Name) and node.value.id == "json"
    ]
    # The graph reader is copied to where tfkd is not installed, so it can import nothing of it.
    assert found == ["data/graph_reader.py", "storage/json_files.py"]
