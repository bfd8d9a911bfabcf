"""Each module imports from rooms above its own alone, which rules circles out."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tfkd"

# From the foundations to the door. A new module must be given its place here.
ORDER = (
    "tfkd",
    "tfkd.errors",
    "tfkd.files",
    "tfkd.locks",
    "tfkd.heap",
    "tfkd.strict_yaml",
    "tfkd.config.settings",
    "tfkd.config.checks",
    "tfkd.config.reading",
    "tfkd.config",
    # inputs
    "tfkd.resampling",
    "tfkd.mpeg",
    "tfkd.audio",
    "tfkd.corpora.utterances",
    "tfkd.corpora.lines",
    "tfkd.corpora.jsonl",
    "tfkd.corpora.kaldi",
    "tfkd.corpora.published",
    "tfkd.corpora",
    "tfkd.splitting",
    "tfkd.text",
    "tfkd.records.framing",
    "tfkd.records.examples",
    "tfkd.records.schema",
    "tfkd.records.plan",
    "tfkd.records.shards",
    "tfkd.records.store",
    "tfkd.records.access",
    "tfkd.records.layout",
    "tfkd.records.writer",
    "tfkd.records",
    "tfkd.nbest",
    "tfkd.filtering",
    "tfkd.targets",
    "tfkd.datasets",
    "tfkd.speed",
    "tfkd.epochs",
    "tfkd.shapes",
    # maths
    "tfkd.model_files",
    "tfkd.layers.dimensions",
    "tfkd.layers.products",
    "tfkd.layers.normalisation",
    "tfkd.layers.cells",
    "tfkd.layers.recurrent",
    "tfkd.layers.randomness",
    "tfkd.layers.frontend",
    "tfkd.layers.attention",
    "tfkd.layers.attention_scan",
    "tfkd.layers.encoders",
    "tfkd.layers.decoders",
    "tfkd.layers",
    "tfkd.models",
    "tfkd.beam_search.interface",
    "tfkd.beam_search.ranking",
    "tfkd.beam_search.constraints",
    "tfkd.beam_search.hypotheses",
    "tfkd.beam_search.history",
    "tfkd.beam_search.search",
    "tfkd.beam_search",
    "tfkd.ctc_prefix",
    "tfkd.language_models.arpa",
    "tfkd.language_models.ngram",
    "tfkd.language_models.rnn",
    "tfkd.language_models.sentences",
    "tfkd.language_models",
    "tfkd.distribution",
    "tfkd.losses",
    "tfkd.optimizers",
    "tfkd.metrics",
    # work
    "tfkd.decoding",
    "tfkd.checkpoints",
    "tfkd.runs",
    "tfkd.claims",
    "tfkd.callbacks",
    "tfkd.profiling",
    "tfkd.training",
    "tfkd.lm_training",
    "tfkd.preparing",
    "tfkd.labelling",
    "tfkd.cluster",
    "tfkd.exchange",
    "tfkd.device",
    "tfkd.exporting",
    "tfkd.evaluation",
    "tfkd.tuning",
    "tfkd.provenance",
    "tfkd.running",
    "tfkd.reporting",
    "tfkd.filter_report",
    "tfkd.filter_page",
    "tfkd.cli.exit_codes",
    "tfkd.cli.options",
    "tfkd.cli.data",
    "tfkd.cli.training",
    "tfkd.cli.labels",
    "tfkd.cli.decoding",
    "tfkd.cli.models",
    "tfkd.cli.parser",
    "tfkd.cli",
    "tfkd.__main__",
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


def misplaced_imports(package: Path, order: Sequence[str]) -> list[str]:
    modules = modules_of(package)
    return [
        f"{name}:{line} imports {imported}, which is not above it"
        for name, path in modules.items()
        for imported, line in imports_of(name, path, modules)
        if order.index(imported) >= order.index(name)
    ]


def test_every_module_has_one_place():
    assert sorted(ORDER) == sorted(modules_of(PACKAGE))


def test_imports_point_upward():
    assert misplaced_imports(PACKAGE, ORDER) == []


def test_files_of_a_room_stand_together():
    rooms = [name.split(".")[1] for name in ORDER if "." in name]
    changes = [room for room, before in zip(rooms, [None, *rooms]) if room != before]
    assert len(changes) == len(set(changes))


@pytest.mark.parametrize(
    "line",
    [
        "import pack.high",
        "from pack import high",
        "from pack.high import thing",
        "def f():\n    from pack.high import thing",
        "from pack.low import itself",
    ],
)
def test_an_import_that_points_downward_is_found(tmp_path, line):
    package = tmp_path / "pack"
    package.mkdir()
    for name, content in {"__init__": "", "low": line, "high": "import pack.low"}.items():
        (package / f"{name}.py").write_text(content)
    (found,) = misplaced_imports(package, ("pack", "pack.low", "pack.high"))
    assert found.startswith("pack.low:")


def test_modules_that_import_each_other_fit_no_order(tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    for name, content in {"__init__": "", "a": "import pack.b", "b": "import pack.a"}.items():
        (package / f"{name}.py").write_text(content)
    assert misplaced_imports(package, ("pack", "pack.a", "pack.b"))
    assert misplaced_imports(package, ("pack", "pack.b", "pack.a"))
