"""Imports point from a room to the rooms below it alone, and no two files import in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tfkd"

# The storeys of the house, from the roof down. Rooms of one storey do not know each other.
STOREYS = (
    ("__main__",),
    ("cli",),
    ("pipeline",),
    ("reporting",),
    ("training",),
    ("objectives", "evaluation"),
    ("distillation", "exporting"),
    ("decoding",),
    ("data", "models", "language_models", "device"),
    ("records", "layers", "beam_search"),
    ("text", "corpora"),
    ("config",),
    ("audio", "storage"),
    ("errors", "metrics", "environment", "malloc", "native_messages", "progress"),
)


def modules_of(package: Path) -> dict[str, Path]:
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        modules[".".join(parts).removesuffix(".__init__")] = path
    return modules


def imports_of(name: str, path: Path, modules: dict[str, Path]) -> Iterator[tuple[str, int]]:
    """Modules of the package that `path` imports anywhere, functions included, with the line."""
    root = name.partition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{name}:{node.lineno} imports relatively")
            # `from package import module` imports the module, `from module import name` does not.
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [each if each in modules else str(node.module) for each in inner]
        else:
            continue
        for each in names:
            if each.partition(".")[0] == root:
                yield each, node.lineno


def room_of(module: str) -> str:
    """The folder or file directly below the package; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def upward_imports(package: Path, storeys: Sequence[Sequence[str]]) -> list[str]:
    """Imports that lead to a room on the same storey or on one above.

    The package itself is the door: it names every room, and loads none before it is asked to.
    """
    modules = modules_of(package)
    storey = {room: number for number, rooms in enumerate(storeys) for room in rooms}
    return [
        f"{name}:{line} imports {imported}, which is not below it"
        for name, path in modules.items()
        for imported, line in imports_of(name, path, modules)
        if room_of(name) and room_of(imported) and room_of(imported) != room_of(name)
        if storey[room_of(imported)] <= storey[room_of(name)]
    ]


def check_no_circle(package: Path) -> None:
    """Raises CycleError if files import each other in a circle."""
    modules = modules_of(package)
    graph = {
        name: {imported for imported, _ in imports_of(name, path, modules)}
        for name, path in modules.items()
        if room_of(name)  # The door names its rooms for type checkers, and they its version.
    }
    tuple(TopologicalSorter(graph).static_order())


def test_every_room_has_a_storey():
    rooms = {room_of(module) for module in modules_of(PACKAGE)} - {""}
    assert rooms == {room for storey in STOREYS for room in storey}


def test_imports_point_downward():
    assert upward_imports(PACKAGE, STOREYS) == []


def test_no_two_files_import_each_other_in_a_circle():
    check_no_circle(PACKAGE)


def test_the_tests_mirror_the_rooms():
    helpers = {"fuzz", "reliability"}
    folders = {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")} - helpers
    assert folders <= {room for storey in STOREYS for room in storey}


@pytest.mark.parametrize(
    "line",
    [
        "import pack.high",
        "from pack import high",
        "from pack.high import thing",
        "def f():\n    from pack.high import thing",
    ],
)
@pytest.mark.parametrize("storeys", [(("high",), ("low",)), (("high", "low"),)])
def test_an_import_that_points_upward_is_found(tmp_path, line, storeys):
    package = tmp_path / "pack"
    package.mkdir()
    for name, content in {"__init__": "", "low": line, "high": ""}.items():
        (package / f"{name}.py").write_text(content)
    (found,) = upward_imports(package, storeys)
    assert found.startswith("pack.low:")


def test_files_of_a_room_may_import_each_other_but_in_no_circle(tmp_path):
    package = tmp_path / "pack" / "room"
    package.mkdir(parents=True)
    for path, content in {
        package.parent / "__init__.py": "",
        package / "__init__.py": "from pack.room.a import x",
        package / "a.py": "import pack.room.b",
        package / "b.py": "",
    }.items():
        path.write_text(content)
    assert upward_imports(package.parent, (("room",),)) == []
    check_no_circle(package.parent)
    (package / "b.py").write_text("import pack.room.a")
    with pytest.raises(CycleError):
        check_no_circle(package.parent)
