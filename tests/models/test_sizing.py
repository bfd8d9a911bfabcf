"""A student that fits a budget is the widest one that does, and costs what was said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tfkd import cli
from tfkd.config import SystemConfig, from_dict, load_system_config
from tfkd.errors import ConfigError
from tfkd.models.recogniser import Recogniser
from tfkd.models.sizing import fit_student, narrowed, proposed
from tfkd.text import vocab_size_of

VOCAB_SIZE = 15
ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "recipes"


@pytest.fixture(scope="module")
def large() -> SystemConfig:
    settings = {"units": 64, "conv_units": 48, "layers": 2, "dropout": 0.2}
    changed = {"model": {"encoder": settings, "decoder": {"units": 96, "dropout": 0.1}}}
    return from_dict(SystemConfig, changed)


def test_a_narrowed_teacher_keeps_all_but_widths_and_dropouts(large):
    student = narrowed(large, 0.25)
    encoder = student.model.encoder
    assert (encoder.units, encoder.conv_units, encoder.layers) == (16, 12, 2)
    assert (encoder.dropout, student.model.decoder.units) == (0.05, 24)
    assert student.model.frontend == large.model.frontend
    assert student.training.objective.kind == "seq_kd"
    assert student.tokenizer == large.tokenizer


@pytest.mark.slow
def test_the_student_is_the_widest_within_the_budget(large):
    models = dict.fromkeys(narrowed(large, step / 1000).model for step in range(1, 1000))
    counts = [Recogniser(model, VOCAB_SIZE).count_params() for model in models]
    assert len(counts) > 30
    for budget in (counts[3], counts[3] + 1, counts[4] - 1):
        found = fit_student(large, VOCAB_SIZE, lambda each: each.parameters, budget)
        assert found.parameters == counts[3]
        assert Recogniser(found.system.model, VOCAB_SIZE).count_params() == counts[3]
    with pytest.raises(ConfigError, match="even the narrowest student"):
        fit_student(large, VOCAB_SIZE, lambda each: each.parameters, counts[0] - 1)
    with pytest.raises(ConfigError, match="the teacher itself is within the budget"):
        fit_student(large, VOCAB_SIZE, lambda each: each.parameters, 2 * counts[-1])


@pytest.mark.parametrize(
    ("encoder", "budget"),
    [
        ({"kind": "recurrent", "units": 216, "rank": 60}, 60_000),
        ({"kind": "conv2d_recurrent", "units": 216, "filters": 32}, 40_000),
    ],
)
def test_ranks_and_filters_become_fewer_with_the_units(encoder, budget):
    """Factors of a rank near the units have more weights than the whole kernel."""
    teacher = from_dict(SystemConfig, {"model": {"encoder": encoder}})
    found = fit_student(teacher, VOCAB_SIZE, lambda each: each.parameters, budget)
    own, whole = found.system.model.encoder, teacher.model.encoder
    share = own.units / whole.units
    assert own.units >= 12
    for name in encoder.keys() & {"rank", "filters"}:
        assert getattr(own, name) == pytest.approx(share * getattr(whole, name), abs=2)


@pytest.mark.parametrize("family", ["ctc-recurrent", "conformer"])
def test_any_family_can_be_narrowed(family):
    """CTC alone has no decoder layer; attention heads divide the width of their layers."""
    teacher = load_system_config(ROOT / "configs" / "families" / f"{family}.yaml", "teacher")
    vocab_size = vocab_size_of(teacher.tokenizer)
    found = fit_student(teacher, vocab_size, lambda each: each.parameters, 100_000)
    assert 70_000 < found.parameters <= 100_000
    assert found.rtf > 0


FAMILIES = json.loads((RECIPES / "families.results.json").read_text())


@pytest.mark.parametrize("name", FAMILIES["rows"])
def test_the_estimate_of_bytes_is_that_of_a_recipe_that_was_run(name):
    """The size of a real export, which a change of the exporter changes with the results."""
    row = FAMILIES["rows"][name]
    config = FAMILIES["config"]["sweep"]["students"][name]
    vocab_size = config["tokenizer"]["vocab_size"]
    proposal = proposed(from_dict(SystemConfig, config), vocab_size, 1e9)
    assert proposal.parameters == row["parameters"]
    assert proposal.int8_bytes == pytest.approx(row["export"]["bytes"], rel=0.1)


# The speed of the machine that measured both results, by `measured_macs_per_second`.
MACS_PER_SECOND = 1.2e10


@pytest.mark.parametrize("recipe", ["families", "families-barista"])
def test_the_estimates_of_speed_are_within_a_half_of_recipes_that_were_run(recipe):
    results = json.loads((RECIPES / f"{recipe}.results.json").read_text())
    for name, row in results["rows"].items():
        config = results["config"]["sweep"]["students"][name]
        vocab_size = config["tokenizer"]["vocab_size"]
        proposal = proposed(from_dict(SystemConfig, config), vocab_size, MACS_PER_SECOND)
        assert proposal.rtf == pytest.approx(row["rtf"], rel=0.5)
        assert proposal.tflite_rtf == pytest.approx(row["export"]["rtf"], rel=0.5)


def test_the_command_writes_a_config_that_tfkd_reads(tmp_path, capsys):
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump({"model": {"encoder": {"units": 64}}}))
    out = tmp_path / "student.yaml"
    cli.main(["fit-student", "--teacher", str(tmp_path / "teacher.yaml"), "--params", "5x",
              "--out", str(out)])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split()[0] == "student"
    assert 5.0 <= float(lines[3].split()[2][:-1]) < 7.0
    cli.main(["params", str(out)])
    assert lines[3].split()[1] in capsys.readouterr().out
