"""Every example of docstrings, README and docs/ is run; every command in them exists."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import json
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tfkd
from tfkd.cli.parser import command_parser
from tfkd.data.graph_reader import _kernels
from tfkd.device.interpreter import COVERAGE, LENGTH, OUTPUTS
from tfkd.device.metadata import DeviceMetadata
from tfkd.distillation.filters import FILTERS

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path for path in (ROOT / "tfkd").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")
)
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a language in all pages, each with the name of its page."""
    for page in PAGES:
        for _, found, content in _FENCE.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield str(page.relative_to(ROOT)), content


def commands() -> Iterator[tuple[str, str]]:
    """The tfkd commands of the shell blocks, continued lines joined."""
    for page, content in blocks("sh"):
        for line in content.replace("\\\n", " ").splitlines():
            if (start := line.find("tfkd ")) >= 0 and not line.lstrip().startswith("#"):
                yield page, line[start:].partition(" #")[0].strip()


def usages() -> list[str]:
    """The commands with their arguments in the README's table."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(tfkd [^`]+)` \|", readme, re.MULTILINE)


@pytest.fixture
def workshop(teacher, prepared, labels, exports, tiny_corpus, tmp_path, monkeypatch) -> Path:
    """The folder that examples speak of: a run, stores, labels, an export and a recording."""
    work = tmp_path / "work"
    shutil.copytree(teacher.directory, work / "teacher")
    for split, store in prepared.items():
        shutil.copytree(store.directory, work / "data" / split)
    shutil.copytree(labels.directory, work / "labels")
    (work / "export").mkdir()
    shutil.copy(exports["tflite-float32"].path, work / "export" / "model-float32.tflite")
    shutil.copy(tiny_corpus / "test-00.wav", tmp_path / "order.wav")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def skip_without_kernels(example: str) -> None:
    """Skips what reads stores, or decodes audio, in graph where tensorflow-io does not run."""
    if "tensorflow_datasets" in example:
        pytest.importorskip("tensorflow_io", reason="TensorFlow Datasets needs it for audio")
    if "graph_reader" in example:
        try:
            _kernels()
        except RuntimeError as error:
            pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_of_a_module(path, workshop):
    skip_without_kernels(str(path))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        if ">>> " in (text := ast.get_docstring(node) or ""):
            name = getattr(node, "name", path.stem)
            names = {**vars(module), "tfkd": tfkd, "np": np}
            runner.run(parser.get_doctest(text, names, name, str(path), node.body[0].lineno))
    assert runner.tries
    assert not runner.failures


def test_every_place_on_the_code_map_is_there():
    pages = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8")
    places = set(re.findall(r"`((?:\w+/)+(?:[\w-]+\.\w+)?|\w+\.py)`", pages))
    assert len(places) > 30
    missing = [p for p in places if not (ROOT / "tfkd" / p).exists() and not (ROOT / p).exists()]
    assert missing == []


def test_the_guide_tells_of_every_filter():
    guide = (ROOT / "docs" / "guide" / "filters.md").read_text(encoding="utf-8")
    assert [each.setting for each in FILTERS if f"`{each.setting}`" not in guide] == []


def test_the_page_for_keras_tells_of_every_field_of_a_batch(labels, prepared, teacher):
    """Their names, dtypes and numbers of axes."""
    page = (ROOT / "docs" / "keras.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| \[(.*?)\] \|", page, re.MULTILINE)
    data, objective = [prepared["train"], labels], tfkd.objectives.SequenceKD()
    batches = tfkd.batches(data, teacher.tokenizer, objective, shares=[0.3, 0.7])
    fields = {n: (each.dtype.name, each.shape.rank) for n, each in batches.element_spec.items()}
    for name, field in tfkd.objectives.WordKD().signature.items():
        fields[name] = (field.dtype, 1 + len(field.shape))
    assert {name: (dtype, len(axes.split(", "))) for name, dtype, axes in rows} == fields


def links() -> Iterator[tuple[str, str]]:
    """The links of all pages to files and headings of this repository."""
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                yield str(page.relative_to(ROOT)), link


@pytest.mark.parametrize(("page", "link"), list(links()))
def test_a_link_leads_somewhere(page, link):
    file, _, anchor = link.partition("#")
    target = (ROOT / page).parent / file if file else ROOT / page
    assert target.exists()
    if anchor:
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
        assert anchor in [heading.replace(" ", "-") for heading in kept]


def test_the_guide_to_devices_names_all_that_an_export_holds():
    guide = (ROOT / "docs" / "guide" / "devices.md").read_text(encoding="utf-8")
    held = (field.name for field in dataclasses.fields(DeviceMetadata))
    names = [*held, LENGTH, *OUTPUTS, COVERAGE]
    assert [name for name in names if f"`{name}`" not in guide] == []


def test_the_javascript_of_a_page_is_what_try_web_runs():
    tried = (ROOT / "packaging" / "try_web.mjs").read_text(encoding="utf-8")
    pages = list(blocks("js"))
    assert pages
    assert [page for page, content in pages if content not in tried] == []


@pytest.mark.slow
@pytest.mark.parametrize(("page", "code"), list(blocks("python")))
def test_the_python_of_a_page(page, code, workshop):
    skip_without_kernels(code)
    exec(compile(code, page, "exec"), {"__name__": "example"})


@pytest.mark.parametrize(("page", "command"), list(commands()))
def test_a_command_of_a_page_exists(page, command):
    words = [word for word in shlex.split(command) if word not in {"&&", "\\"}][1:]
    for stop in ("|", ">", "&"):
        words = words[: words.index(stop)] if stop in words else words
    command_parser().parse_args(words)  # Ends the process, so the test, if it is no command.


@pytest.mark.parametrize("command", usages())
def test_a_command_of_the_readme_needs_no_more_options(command):
    without_optional = re.sub(r" \[[^]]*\]", "", command).replace("\u2026", "")
    command_parser().parse_args(without_optional.split()[1:])


@pytest.mark.parametrize("name", ["robustness", "robustness-orders"])
def test_a_page_of_robustness_tells_what_its_file_tells(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    page = runpy.run_path(str(ROOT / "benchmarks" / "robustness.py"))["page"]
    source = f"benchmarks/results/{name.replace('-', '_')}.json"
    models = json.loads((ROOT / source).read_text())["models"]
    written = (ROOT / "docs" / "recipes" / f"{name}.md").read_text()
    title = written.partition("\n")[0].removeprefix("# ")
    assert written == page(title, source, models)


def test_the_page_of_benchmarks_tells_what_their_files_tell():
    page = runpy.run_path(str(ROOT / "benchmarks" / "summary.py"))["page"]
    assert (ROOT / "benchmarks" / "results" / "README.md").read_text() == page()
