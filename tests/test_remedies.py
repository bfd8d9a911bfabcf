"""Every error that tfkd raises says what to do about it, not only what is wrong."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

import pytest
from test_rooms import PACKAGE, modules_of

ERRORS = {
    node.name
    for path in (PACKAGE / "errors.py", PACKAGE / "audio" / "unusable.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
}
# Modules and functions whose errors get their remedies elsewhere, and where.
ELSEWHERE = {
    "tfkd.distillation.apache_beam._whole_message": "in the message, which is all that Beam keeps",
    "tfkd.exporting.parity": "in exporting.export",
    "tfkd.models.whisper.ctranslate2": "in models.whisper.folder",
    "tfkd.models.whisper.huggingface": "in models.whisper.folder",
    "tfkd.models.whisper.weights": "in models.whisper.folder",
    "tfkd.records.fields": "in records.schema and records.utterance",
    "tfkd.records.tf_example": "in records.schema and records.utterance",
    "tfkd.records.utterance.utterance_of": "in records.schema and records.utterance",
}


def _advises(calls: Iterable[ast.expr]) -> bool:
    return any(isinstance(each, ast.Call) and _name(each.func) == "advising" for each in calls)


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _unadvised(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what a definition consists of, except what `advising` gives a remedy."""
    if isinstance(node, ast.FunctionDef) and _advises(node.decorator_list):
        return
    if isinstance(node, ast.With) and _advises(item.context_expr for item in node.items):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _unadvised(child)


def _lacks_remedy(node: ast.AST) -> bool:
    """Whether a node makes an error without a remedy."""
    return (
        isinstance(node, ast.Call)
        and _name(node.func) in ERRORS
        and "remedy" not in {keyword.arg for keyword in node.keywords}
    )


def errors_without_remedy(source: str) -> list[str]:
    """The top-level definitions that raise errors without a remedy, with the lines.

    A private definition is advised, too, if all that use it are.
    """
    parts: dict[str, list[ast.AST]] = {}
    for node in ast.parse(source).body:
        for name in _defined(node):
            parts[name] = list(_unadvised(node))
    used = {
        name: {each.id for each in nodes if isinstance(each, ast.Name)} - {name}
        for name, nodes in parts.items()
    }
    reached = {name for name in parts if not name.startswith("_")}
    while more := {each for name in reached for each in used[name] & parts.keys()} - reached:
        reached |= more
    return [
        f"{name}:{node.lineno}"
        for name in parts
        if name in reached
        for node in parts[name]
        if _lacks_remedy(node)
    ]


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_every_error_has_a_remedy():
    found = [
        f"{module}.{place}"
        for module, path in modules_of(PACKAGE).items()
        for place in errors_without_remedy(path.read_text(encoding="utf-8"))
    ]
    excused = {place: each for place in found for each in ELSEWHERE if place.startswith(each)}
    assert [place for place in found if place not in excused] == []
    assert ELSEWHERE.keys() - set(excused.values()) == set()


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ("def read():\n    raise RecordError('is bad')", ["read:2"]),
        ("def read():\n    raise RecordError('is bad', remedy='copy it')", []),
        ("@advising('copy it')\ndef read():\n    raise RecordError('is bad')", []),
        ("def read():\n    with advising('copy it'):\n        raise RecordError('is bad')", []),
        (
            "@advising('copy it')\ndef read():\n    _check()\n"
            "def _check():\n    raise RecordError('is bad')",
            [],
        ),
        (
            "@advising('copy it')\ndef read():\n    _check()\ndef write():\n    _CHECKS[0]()\n"
            "def _check():\n    raise RecordError('is bad')\n_CHECKS = [_check]",
            ["_check:7"],
        ),
        (
            "class Store:\n    @advising('copy it')\n    def read(self):\n"
            "        raise RecordError('is bad')\n"
            "    def write(self):\n        raise UnusableAudio('silent', 'is bad')",
            ["Store:6"],
        ),
    ],
)
def test_an_error_without_a_remedy_is_found(source, places):
    assert errors_without_remedy(source) == places
