"""A model hears audio of its own sample rate alone; of another it would say nonsense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tfkd.config import ExportConfig, LabelConfig, PrepareConfig
from tfkd.data.preparation import prepare
from tfkd.data.sample_rates import check_rate, rate_of
from tfkd.decoding.runs import Run
from tfkd.distillation.labelling import label
from tfkd.errors import RecordError
from tfkd.evaluation.evaluate import evaluate
from tfkd.evaluation.models import open_model
from tfkd.exporting.export import export
from tfkd.records import Store, open_store
from tfkd.training.callbacks import ValidationErrorRate
from tfkd.training.loop import train


@pytest.fixture(scope="module")
def at_16_khz(tiny_corpus, tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("prepared") / "valid"
    prepare(tiny_corpus / "valid.jsonl", out, PrepareConfig(sample_rate_hz=16_000))
    return open_store(out)


def test_a_store_has_the_rate_that_it_was_prepared_with(prepared, at_16_khz):
    assert [rate_of(prepared["valid"]), rate_of(at_16_khz)] == [8000, 16_000]
    check_rate(at_16_khz, 16_000)


def evaluated(teacher: Run, store: Store, out: Path) -> None:
    evaluate(open_model(teacher.directory), store)


def exported(teacher: Run, store: Store, out: Path) -> None:
    export(teacher, out, ExportConfig(formats=("savedmodel",)), store)


def labelled(teacher: Run, store: Store, out: Path) -> None:
    label(teacher, store, out, LabelConfig())


def trained(teacher: Run, store: Store, out: Path) -> None:
    train(teacher.system, store, store, out)


def validated(teacher: Run, store: Store, out: Path) -> None:
    ValidationErrorRate(teacher.decoder(), store)


@pytest.mark.parametrize("work", [evaluated, exported, labelled, trained, validated])
def test_audio_of_another_rate_is_refused(
    work: Callable[[Run, Store, Path], None], teacher, at_16_khz, tmp_path
):
    with pytest.raises(RecordError, match="is at 16000 Hz, the model needs 8000"):
        work(teacher, at_16_khz, tmp_path / "out")
