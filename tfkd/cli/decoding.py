"""Commands that decode audio and measure the result."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tfkd.cli.options import search_overrides, take_section
from tfkd.cli.printing import say
from tfkd.errors import ConfigError

if TYPE_CHECKING:
    from tfkd.records import Hypothesis


def decode(options: argparse.Namespace) -> None:
    from tfkd.distillation.teachers import is_run

    take_section(options, "decoding")
    (_decode_run if is_run(options.run) else _decode_whisper)(options)


def _decode_run(options: argparse.Namespace) -> None:
    from tfkd.data.audio_batches import audio_batches
    from tfkd.decoding.decoder import decode_dataset
    from tfkd.decoding.results import hypotheses_of
    from tfkd.decoding.runs import load_run

    run = load_run(options.run).with_decoding(search_overrides(options))
    decoding = run.system.decoding
    if options.nbest:
        decoding = dataclasses.replace(decoding, num_hypotheses=decoding.beam_width)
    decoder = run.decoder(decoding)
    with run.open_data(options.data) as store:
        batches = audio_batches(store, run.system.training.batch_size)
        for decoded in decode_dataset(decoder, batches):
            hypotheses = hypotheses_of(decoded, run.model.frame_seconds)
            pieces = run.tokenizer.pieces
            _say_decoded(
                options, decoded.utterance_id, decoded.reference, hypotheses, pieces.__getitem__
            )


def _decode_whisper(options: argparse.Namespace) -> None:
    from tfkd.config import DecodingConfig, LabelConfig, with_overrides
    from tfkd.data.audio_batches import audio_batches
    from tfkd.data.given_audio import utterance_store
    from tfkd.distillation.teachers import load_whisper_teacher

    plain = LabelConfig(beam_width=DecodingConfig().beam_width, num_hypotheses=1)
    take_section(options, "labels")
    config = with_overrides(plain, search_overrides(options))
    if options.nbest:
        config = dataclasses.replace(config, num_hypotheses=config.beam_width)
    teacher = load_whisper_teacher(options.run)
    teacher.digest(config)  # refuses settings that no Whisper knows
    label = teacher.labeller(config)
    with utterance_store(options.data, teacher.preparation) as store:
        for batch in audio_batches(store, config.batch_size):
            columns = (batch[name].numpy() for name in ("utterance_id", "text", "has_text"))
            for name, text, has_text, hypotheses in zip(*columns, label(batch), strict=True):
                reference = text.decode() if has_text else None
                _say_decoded(options, name.decode(), reference, hypotheses, teacher.piece)


def _say_decoded(
    options: argparse.Namespace,
    utterance_id: str,
    reference: str | None,
    hypotheses: Sequence[Hypothesis],
    piece_of: Callable[[int], str],
) -> None:
    """Prints what was found for an utterance in the form that the options ask for."""
    from tfkd.reporting.tables import nbest_text

    if options.json:
        row = {"utterance_id": utterance_id, "reference": reference,
               "hypotheses": [asdict(hypothesis) for hypothesis in hypotheses]}  # fmt: skip
        say(json.dumps(row, ensure_ascii=False))
    elif options.nbest:
        say(nbest_text(utterance_id, hypotheses, piece_of))
    else:
        say(f"{utterance_id}\t{hypotheses[0].text if hypotheses else ''}")


def tune_decoding(options: argparse.Namespace) -> None:
    import yaml

    from tfkd.config import apply_overrides
    from tfkd.decoding.runs import load_run
    from tfkd.evaluation.tuning import combinations_of, tune
    from tfkd.reporting.tables import table
    from tfkd.storage.files import check_writable, write_text

    grid = _grid(options.parameter)
    check_writable(options.out)
    overrides = search_overrides(options)
    run = load_run(options.run).with_decoding(overrides)
    combinations_of(run, grid)  # refuses what would be refused after hours of preparation
    with run.open_data(options.data) as store:
        trials = tune(run, store, grid)
        total = len(store.index)
    rows = [
        [
            "  ".join(trial.overrides),
            f"{100 * trial.rate.wer:.2f}",
            f"{100 * trial.rate.wer_low:.2f} - {100 * trial.rate.wer_high:.2f}",
        ]
        for trial in trials
    ]
    chosen = apply_overrides({}, [*overrides, *trials[0].overrides])
    write_text(options.out, yaml.safe_dump(chosen, sort_keys=False))
    say(table(["settings", "WER %", "95 % interval"], rows))
    scored = trials[0].rate.utterances
    if scored < total:
        say(f"{total - scored} of {total} utterances have no transcript: WER is that of the other "
            f"{scored}")  # fmt: skip
    say(f"\nThe best settings are in {options.out}, for the option --decoding.")


def _grid(parameters: Sequence[str]) -> dict[str, list[str]]:
    grid: dict[str, list[str]] = {}
    for key, values in map(_values, parameters):
        if key in grid:
            raise ConfigError(f"--parameter {key}: is given twice", remedy=f"{key}=V1,V2,...")
        grid[key] = values
    return grid


def _values(parameter: str) -> tuple[str, list[str]]:
    key, _, values = parameter.partition("=")
    if not key or not values:
        raise ConfigError(
            f"--parameter {parameter!r} is not KEY=V1,V2,...",
            remedy="for example --parameter beam_width=2,4,8",
        )
    return key, values.split(",")


def evaluate(options: argparse.Namespace) -> None:
    from tfkd.data.given_audio import preparation_for, utterance_store
    from tfkd.evaluation.comparing import compared, read_transcripts
    from tfkd.evaluation.evaluate import evaluate
    from tfkd.evaluation.models import open_model
    from tfkd.reporting.results import systems_table
    from tfkd.reporting.sentences import WORDLESS
    from tfkd.reporting.sentences import comparison as told
    from tfkd.storage.files import check_writable, write_json, write_text

    for path in filter(None, (options.json, options.transcripts)):
        check_writable(path)
    model = open_model(options.model, search_overrides(options), trusted=options.trust)
    config = preparation_for(model.sample_rate_hz, model.pieces)
    with utterance_store(options.data, config) as store:
        others = read_transcripts(options.against, store) if options.against else {}
        evaluation, transcripts = evaluate(model, store)
    comparison = compared(transcripts, others)
    if options.json:
        against = {"against": asdict(comparison)} if comparison else {}
        write_json(options.json, {**asdict(evaluation), **against})
    if options.transcripts:
        rows = (json.dumps(asdict(t), ensure_ascii=False) + "\n" for t in transcripts)
        write_text(options.transcripts, "".join(rows))
    say(systems_table({evaluation.form: asdict(evaluation)}))
    if evaluation.silent:
        say(f"{evaluation.silent_with_words} of {evaluation.silent} clips in which nothing is said "
            "have words")  # fmt: skip
    if evaluation.without_transcript:
        total = evaluation.utterances + evaluation.without_transcript + evaluation.too_long
        say(f"{evaluation.without_transcript} of {total} utterances have no transcript: WER and "
              f"CER are those of the other {evaluation.utterances}")  # fmt: skip
    if comparison:
        rates, name = (comparison.wer, comparison.other_wer), Path(options.against).name
        say(
            told("this model", name, rates, comparison.difference) if evaluation.words else WORDLESS
        )
        if comparison.left_out:
            say(f"Compared in {comparison.utterances} utterances; {comparison.left_out} others are "
                "in one of the two alone.")  # fmt: skip
