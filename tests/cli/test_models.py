"""`tfkd export` and `tfkd transcribe` hand on what their options say, and print what was made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tfkd import cli
from tfkd.device import recogniser
from tfkd.device.recogniser import DeviceRecogniser, Transcription
from tfkd.errors import ExportError
from tfkd.evaluation import models as evaluation
from tfkd.evaluation.models import open_model
from tfkd.exporting import export as exporting
from tfkd.exporting.export import Exported, RefusedForms

WRITTEN = Exported(
    format="tflite-int8",
    path="model-int8.tflite",
    bytes=1000,
    run_sha256="0" * 64,
    identical=1.0,
    wer_change=0.0,
    wer_to_keras=0.0,
    log_prob_drift=0.01,
    utterances=6,
    made=20,
)


@pytest.fixture
def asked(monkeypatch) -> list[SimpleNamespace]:
    """Receives the runs and settings with which `tfkd export` exports, and exports nothing."""
    asked: list[SimpleNamespace] = []

    def export(run: Any, out: str, config: Any, store: Any) -> list[Exported]:
        asked.append(SimpleNamespace(config=config, decoding=run.system.decoding))
        return [WRITTEN]

    monkeypatch.setattr(exporting, "export", export)
    return asked


@pytest.fixture
def command(teacher, tmp_path) -> list[str]:
    return ["export", str(teacher.directory), "--out", str(tmp_path / "out")]


def test_the_forms_that_were_written_are_shown_although_others_are_refused(
    command, monkeypatch, capsys
):
    def export(*arguments: Any) -> list[Exported]:
        raise RefusedForms(ExportError("savedmodel differs", remedy="report it"), [WRITTEN])

    monkeypatch.setattr(exporting, "export", export)
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "model-int8.tflite" in said.out
    assert said.err == "tfkd: error: savedmodel differs (report it)\n"


def test_an_export_takes_a_file_of_the_search(command, asked, tmp_path):
    file = tmp_path / "decoding.yaml"
    file.write_text(
        "beam_width: 6\nnum_hypotheses: 2\nlength_penalty: 0.5\n"
        "fusion: {lm: work/lm, lm_weight: 0.3, ctc_weight: 0.1}\n"
    )
    cli.main([*command, "--decoding", str(file), "--beam-width", "5", "--set", "max_tokens=9"])
    (only,) = asked
    search = only.config.decoding(only.decoding)
    assert (search.beam_width, search.num_hypotheses) == (5, 2)
    assert (only.decoding.length_penalty, only.decoding.max_tokens) == (0.5, 9)
    assert only.decoding.fusion.ctc_weight == 0.1


@pytest.mark.parametrize("override", ["fusion.lm_weight=0", "fusion.lm=null"])
def test_an_export_may_turn_the_language_model_off(command, asked, override):
    cli.main([*command, "--set", override])
    assert not asked[0].decoding.fusion.lm_weight
    assert asked[0].config.beam_width is None


def test_an_export_does_not_take_a_language_model(command, asked, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command, "--set", "fusion.lm_weight=0.2"])
    assert "a language model is too large for devices" in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize("is_trusted", [False, True])
def test_a_file_may_be_trusted_to_run_in_the_process(is_trusted, monkeypatch, capsys):
    given = []

    class Recogniser(DeviceRecogniser):
        def __init__(self, path: str, **options: Any) -> None:
            given.append(options)

        def transcribe_file(self, path: Any, segment_seconds: float | None = None) -> Transcription:
            return Transcription("se", (), 1.0, 0.1)

    monkeypatch.setattr(recogniser, "DeviceRecogniser", Recogniser)
    trust = ["--trust"] if is_trusted else []
    cli.main(["transcribe", *trust, "model.tflite", "order.wav"])
    assert given == [{"num_threads": 1, "trusted": is_trusted}]
    assert capsys.readouterr().out == "se\n"


@pytest.mark.parametrize("is_trusted", [False, True])
def test_an_evaluation_trusts_a_file_where_it_is_told_to(tmp_path, monkeypatch, is_trusted):
    given = []
    stub = SimpleNamespace(runs_code=False, open=lambda path, **options: given.append(options))
    monkeypatch.setattr(evaluation, "form_of", lambda path: stub)
    open_model(tmp_path / "model-int8.tflite", trusted=is_trusted)
    assert given == [{"trusted": is_trusted}]
