"""The public names are there, are documented, and cost nothing before they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tfkd

PUBLIC = sorted(set(tfkd.__all__) - {"__version__"})


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, tfkd; dir(tfkd); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"tensorflow", "keras", "numpy", "soundfile", "yaml", "jiwer"}
    assert not heavy & {name.partition(".")[0] for name in loaded.stdout.split()}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_loaded_and_documented(name):
    value = getattr(tfkd, name)
    assert value.__doc__
    assert name in dir(tfkd)


@pytest.mark.parametrize("name", sorted({*PUBLIC} - {"TfkdError"}))
def test_a_public_name_has_an_example(name):
    assert ">>> " in getattr(tfkd, name).__doc__


def test_type_checkers_see_the_names_that_are_there():
    tree = ast.parse(Path(tfkd.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module for node in imports for alias in node.names}
    assert homes == tfkd._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tfkd.trian  # noqa: B018
