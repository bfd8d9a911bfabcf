"""The parity check finds a changed weight, a changed output and a changed form."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfkd.config import ExportConfig
from tfkd.data.preparation import prepare
from tfkd.decoding.runs import Run
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.errors import ExportError
from tfkd.exporting.forms import FORMS
from tfkd.exporting.graph import decode_with, decoder_for
from tfkd.exporting.interface import Decode, OpenForm
from tfkd.exporting.parity import Parity, check
from tfkd.exporting.parity_samples import Sample, parity_samples
from tfkd.models.recogniser import Recogniser
from tfkd.records import Store, open_store

Row = list[DeviceHypothesis]
EXACT, QUANTISED = "tflite-float32", "tflite-int8"


@pytest.fixture(scope="module")
def keras(teacher, export_config) -> Decode:
    return decode_with(decoder_for(teacher, export_config))


@pytest.fixture(scope="module")
def samples(prepared, export_config, keras) -> list[Sample]:
    return parity_samples(prepared["valid"], 8000, export_config, keras)


@pytest.fixture(scope="module")
def opened(exports) -> dict[str, OpenForm]:
    return {name: FORMS[name].open(Path(exports[name].path)) for name in FORMS}


@pytest.fixture
def gate(opened, samples, export_config, keras) -> Callable[..., Parity]:
    """Checks a form whose hypotheses go through `tamper`, an utterance at a time."""

    def run(
        name: str, tamper: Callable[[Row], Row], config: ExportConfig = export_config
    ) -> Parity:
        form = opened[name]

        def decode(waveform: np.ndarray, num_samples: np.ndarray) -> list[Row]:
            return [tamper(list(row)) for row in form.decode(waveform, num_samples)]

        return check(FORMS[name], dataclasses.replace(form, decode=decode), samples, config, keras)

    return run


def unchanged(row: Row) -> Row:
    return row


def changed(**values: Callable) -> Callable[[Row], Row]:
    """Changes an output of every hypothesis."""

    def tamper(row: Row) -> Row:
        return [
            dataclasses.replace(each, **{k: f(getattr(each, k)) for k, f in values.items()})
            for each in row
        ]

    return tamper


def copies_of_the_first(row: Row) -> Row:
    return [row[0]] * len(row) if row else row


def worst_first(row: Row) -> Row:
    """Three hypotheses in the wrong order."""
    return [
        dataclasses.replace(each, token_ids=(rank,), score=-3.0 + rank)
        for rank, each in enumerate(3 * row[:1])
    ]


def the_second_dropped(row: Row) -> Row:
    return row[:1]


def second_of_other_words(row: Row) -> Row:
    return [*row[:1], *(dataclasses.replace(each, token_ids=(7, 3)) for each in row[1:])]


@pytest.mark.parametrize("name", FORMS)
def test_the_true_forms_pass(gate, name):
    parity = gate(name, unchanged)
    assert parity.utterances == 6
    assert parity.made > 10
    assert parity.log_prob_drift < (1e-4 if FORMS[name].is_exact else 0.3)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (changed(log_prob=lambda x: x - 5), "log_prob"),
        (changed(log_prob=lambda x: x + 50), "no logarithms of probabilities"),
        (changed(score=lambda x: -x), "no logarithms of probabilities"),
        (changed(coverage=lambda x: x + 0.5), "coverage"),
        (changed(coverage=lambda x: None), "coverage"),
        (copies_of_the_first, "gives a hypothesis twice"),
        (worst_first, "does not give its best hypothesis first"),
        (lambda row: [], "hypotheses, not|of Keras' words"),
    ],
)
def test_a_tampered_output_is_refused_in_every_form(gate, export_config, name, tamper, message):
    config = dataclasses.replace(export_config, max_wer_to_keras=0.5)
    with pytest.raises(ExportError, match=message) as raised:
        gate(name, tamper, config)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (changed(score=lambda x: x - 0.002), "score of hypothesis 1"),
        (changed(log_prob=lambda x: x - 0.002), "log_prob of hypothesis 1"),
        (changed(coverage=lambda x: x / 2), "coverage of hypothesis 1"),
        (the_second_dropped, "1 hypotheses, not 2"),
        (second_of_other_words, "hypothesis 2 is"),
    ],
)
def test_an_exact_form_may_differ_in_nothing(gate, tamper, message):
    with pytest.raises(ExportError, match=f"{EXACT} differs from Keras on .*{message}"):
        gate(EXACT, tamper)


def without_its_end(row: Row) -> Row:
    """As if every length were one too small."""
    return [dataclasses.replace(each, token_ids=each.token_ids[:-1]) for each in row]


def swapped(row: Row) -> Row:
    """The words of the second with the figures of the first, and the other way round."""
    if len(row) < 2:
        return row
    first, second, *rest = row
    values = [(each.text, each.token_ids) for each in (second, first)]
    changed = zip((first, second), values, strict=True)
    return [*(dataclasses.replace(e, text=t, token_ids=ids) for e, (t, ids) in changed), *rest]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("tamper", [without_its_end, swapped, second_of_other_words])
def test_ids_that_are_not_those_of_the_words_are_refused_in_every_form(
    gate, export_config, name, tamper
):
    """The config allows any change of words; the quantised form of this model changes few."""
    with pytest.raises(ExportError):
        gate(
            name,
            tamper,
            dataclasses.replace(export_config, max_wer_to_keras=0.5, max_wer_change=0.5),
        )


@pytest.mark.parametrize("output", ["log_prob", "score"])
def test_a_drift_of_each_figure_is_limited_in_quantised_forms(gate, output):
    with pytest.raises(ExportError, match=r"changes log_prob or score by .*max_log_prob_drift"):
        gate(QUANTISED, changed(**{output: lambda x: x - 5}))


def test_a_quantised_form_that_is_silent_on_noise_alone_is_refused(
    samples, opened, export_config, keras
):
    real = {sample.waveform.size for sample in samples if sample.is_real}
    form = opened[QUANTISED]

    def deaf_to_noise(waveform: np.ndarray, num_samples: np.ndarray) -> list[Row]:
        rows = form.decode(waveform, num_samples)
        return [list(row) if n in real else [] for row, n in zip(rows, num_samples, strict=True)]

    made = [s for s in samples if s.is_real or s.waveform.size not in real]
    with pytest.raises(ExportError, match="says 0 words on noise and altered speech, Keras"):
        check(
            FORMS[QUANTISED],
            dataclasses.replace(form, decode=deaf_to_noise),
            made,
            export_config,
            keras,
        )


def test_letters_of_scripts_without_spaces_count_as_words(samples, opened, export_config, keras):
    real = {sample.waveform.size for sample in samples if sample.is_real}
    form, ten, one = (
        opened[QUANTISED],
        changed(text=lambda _: 5 * "音楽"),
        changed(text=lambda _: "音"),
    )

    def of_few_words(waveform: np.ndarray, num_samples: np.ndarray) -> list[Row]:
        rows = form.decode(waveform, num_samples)
        pairs = zip(rows, num_samples, strict=True)
        return [list(row) if n in real else one(row) for row, n in pairs]

    made = [
        sample if sample.is_real else dataclasses.replace(sample, keras=ten(sample.keras))
        for sample in samples
        if sample.is_real or sample.waveform.size not in real
    ]
    short = dataclasses.replace(form, decode=of_few_words)
    with pytest.raises(
        ExportError, match=r"says \d+ words on noise and altered speech, Keras \d+0"
    ):
        check(FORMS[QUANTISED], short, made, export_config, keras)


def test_a_form_that_speaks_where_keras_is_silent_is_refused(gate, samples):
    words = [DeviceHypothesis("ba", (4, 3), -1.0, -1.0, 0.5)]
    with pytest.raises(ExportError, match="says 'ba' where Keras says nothing"):
        gate(QUANTISED, lambda row: row or words)


def test_a_weight_of_the_encoder_that_is_scaled_is_seen(
    teacher, prepared, export_config, keras, samples, opened
):
    model = Recogniser(teacher.model.config, teacher.model.vocab_size)
    model.set_weights(teacher.model.get_weights())
    weight = max(model.encoder.trainable_variables, key=lambda v: int(np.prod(v.shape)))
    values = weight.numpy()
    place = np.unravel_index(np.abs(values).argmax(), values.shape)
    values[place] *= 1.5
    weight.assign(values)
    tampered: Run = dataclasses.replace(teacher, model=model)
    form = dataclasses.replace(
        opened[EXACT], decode=decode_with(decoder_for(tampered, export_config))
    )
    with pytest.raises(ExportError, match="differs from Keras on"):
        check(FORMS[EXACT], form, samples, export_config, keras)


@pytest.mark.slow
@pytest.mark.parametrize("token", [5, 9])
def test_one_output_bias_that_is_0_3_higher_is_seen(
    teacher, prepared, export_config, keras, samples, opened, token
):
    model = Recogniser(teacher.model.config, teacher.model.vocab_size)
    model.set_weights(teacher.model.get_weights())
    bias = model.decoder.output_bias
    bias.assign(bias.numpy() + 0.3 * (np.arange(bias.shape[0]) == token))
    tampered: Run = dataclasses.replace(teacher, model=model)
    form = dataclasses.replace(
        opened[EXACT], decode=decode_with(decoder_for(tampered, export_config))
    )
    with pytest.raises(ExportError, match="differs from Keras on"):
        check(FORMS[EXACT], form, samples, export_config, keras)


def test_a_form_that_remembers_the_last_call_is_refused(gate):
    calls = itertools.count()

    def later_calls_differ(row: Row) -> Row:
        return changed(log_prob=lambda x: x - next(calls))(row)

    with pytest.raises(ExportError, match="gives another result the second time"):
        gate(QUANTISED, later_calls_differ)


def test_rounding_may_swap_hypotheses_that_keras_itself_cannot_tell_apart(
    opened, samples, export_config
):
    """Keras that answers otherwise for a last digit of the audio: either answer is right."""
    (first, second) = (DeviceHypothesis("ba", (4, 3), -1.0, -1.0, 0.5),
                       DeviceHypothesis("di", (5, 3), -1.0, -1.0, 0.5))  # fmt: skip
    one = dataclasses.replace(samples[0], keras=[first, second])
    form = dataclasses.replace(opened[EXACT], decode=lambda w, n: [[second, first]] * len(n))

    def torn(waveform: np.ndarray, num_samples: np.ndarray) -> list[Row]:
        is_louder = np.abs(waveform).sum() > np.abs(one.waveform).sum()
        return [[second, first] if is_louder else [first, second]]

    assert check(FORMS[EXACT], form, [one], export_config, torn).identical == 0.0
    with pytest.raises(ExportError, match="hypothesis 1 is 'di', not 'ba'"):
        check(FORMS[EXACT], form, [one], export_config, lambda w, n: [[first, second]])


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("max_wer_to_keras", r"changes \d+.\d\d% of Keras' words, more than 30.00%"),
        ("max_wer_change", r"changes WER by \d+.\d\d%, more than 30.00%"),
    ],
)
def test_a_quantised_form_is_held_to_each_limit(gate, export_config, limit, message):
    config = dataclasses.replace(
        export_config, **{"max_wer_to_keras": 9.0, "max_wer_change": 9.0, limit: 0.3}
    )

    def says_more(row: Row) -> Row:
        return [dataclasses.replace(row[0], text=f"{row[0].text} ba ba")] if row else row

    with pytest.raises(ExportError, match=f"{message} .*raise export.{limit}"):
        gate(QUANTISED, says_more, config)


def test_a_form_that_says_nothing_is_refused_however_poor_keras_is(
    gate, samples, export_config, opened, keras
):
    """Saying nothing may even lower the WER of a model that is wrong everywhere."""
    wrong = [
        dataclasses.replace(each, reference="zz" if each.is_real else None) for each in samples
    ]
    silent = dataclasses.replace(opened[QUANTISED], decode=lambda w, n: [[]] * len(n))
    config = dataclasses.replace(export_config, max_wer_to_keras=0.02)
    with pytest.raises(ExportError, match="changes 100.00% of Keras' words"):
        check(FORMS[QUANTISED], silent, wrong, config, keras)


# --- the samples


def test_the_made_samples_are_unconfident_and_the_same_each_time(
    samples, prepared, export_config, keras
):
    again = parity_samples(prepared["valid"], 8000, export_config, keras)
    for one, other in zip(samples, again, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.waveform, other.waveform)
    probability = {
        is_real: np.mean(
            [np.exp(s.keras[0].log_prob) for s in samples if s.keras and s.is_real == is_real]
        )
        for is_real in (True, False)
    }
    assert probability[False] < probability[True]
    assert max(sample.waveform.size for sample in samples) <= 8000 * export_config.max_seconds


def test_silence_and_unscaled_audio_say_nothing(samples):
    by_name = {sample.name: sample for sample in samples}
    for name in ("silence", "unscaled int16", "an offset", "40 ms", "10 ms"):
        assert by_name[name].keras == [], name


def test_parity_takes_utterances_of_all_lengths(prepared, export_config, keras):
    store = prepared["train"]
    sizes = sorted(row["num_samples"] for row in store.index)
    config = dataclasses.replace(export_config, parity_utterances=3)
    chosen = [s for s in parity_samples(store, 8000, config, keras) if s.is_real]
    found = sorted(len(sample.waveform) for sample in chosen)
    assert found == [sizes[0], sizes[round((len(sizes) - 1) / 2)], sizes[-1]]


@pytest.fixture
def without_transcripts(tmp_path, speak, prepare_config) -> Store:
    """Some recordings of which nobody said what they hold, one of them shorter than a word."""
    lines = []
    for number, (words, seconds) in enumerate([("ba di", 1), ("ko", 1), ("mu", 0.06)]):
        path = speak(tmp_path / f"{number}.wav", words)
        waveform, rate_hz = soundfile.read(path)
        soundfile.write(path, waveform[: round(seconds * rate_hz)], rate_hz)
        lines.append(json.dumps({"audio": path.name}) + "\n")
    (tmp_path / "m.jsonl").write_text("".join(lines))
    config = dataclasses.replace(prepare_config, min_seconds=0.01)
    prepare(tmp_path / "m.jsonl", tmp_path / "store", config)
    return open_store(tmp_path / "store")


def test_without_transcripts_a_form_is_held_to_what_keras_says(
    without_transcripts, export_config, keras, opened
):
    own = parity_samples(without_transcripts, 8000, export_config, keras)
    parity = check(FORMS[QUANTISED], opened[QUANTISED], own, export_config, keras)
    assert (parity.identical, parity.wer_change, parity.utterances) == (1.0, 0.0, 3)
