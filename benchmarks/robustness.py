"""Measures the errors of a recogniser on pauses, silence, joined utterances and other sounds.

    python benchmarks/robustness.py work/student work/export/model-int8.tflite \
        --store work/data/test --others work/others --out benchmarks/results/robustness.json

Each model decodes the utterances of the store as they are, behind and before noise at -60 dBFS, and
joined to longer ones (`wer`, in shares of the words), and then clips in which nobody says anything
to it (`clips` that it makes words of). The sounds are made here, by other means than those of
training, and rounded to 16 bits, as a device records them. `--set` changes the search of a run:

    for weight in 0 0.1 0.2 0.3 0.5; do
      python benchmarks/robustness.py work/student --store work/data/valid --others work/others \
        --set fusion.ctc_weight=$weight --name "CTC weight $weight" --out FILE
    done

Figures of models that were measured before stay in the file; `--page` writes all of them as a page,
with or without models to measure first.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
from synthetic_stores import surroundings
from tqdm import tqdm

from tfkd.evaluation.models import open_model
from tfkd.exporting.interface import OpenForm
from tfkd.metrics import score
from tfkd.records import Store, UtteranceRecord, open_store
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json, write_text

FAINT_DBFS = -60.0
SECONDS_BETWEEN = 0.2
CLIPS_OF_A_KIND = 12
CLIP_SECONDS = (1.0, 8.0)

Waveform = np.ndarray
# A waveform and what is said in it.
Clip = tuple[Waveform, str]


def main() -> None:
    options = _options()
    known = json.loads(options.out.read_text())["models"] if options.out.exists() else {}
    if options.models:
        _measure_all(options, known)
    print(_conditions_table(known))
    print(_clips_table(known))
    if options.page:
        write_text(options.page, page(options.title, str(options.out), known))


def _measure_all(options: argparse.Namespace, known: dict) -> None:
    """Adds the figures of each model to the known ones, and writes them after each."""
    clips = clips_of(options.store)
    others = [waveform for waveform, _ in clips_of(options.others)]
    for path in options.models:
        model = open_model(path, options.set)
        name = options.name or path.name
        known[name] = {
            "form": model.form,
            "parameters": model.parameters,
            "bytes": model.bytes,
            "settings": options.set,
            "store": options.store.name,
            **_measure(model, clips, others),
        }
        write_json(options.out, {**surroundings(), "models": known})


def _measure(model: OpenForm, clips: list[Clip], others: list[Waveform]) -> dict:
    rates = {}
    for name, change in CONDITIONS.items():
        changed = change(clips, model.sample_rate_hz, np.random.default_rng(0))
        texts = _transcribe(model, [waveform for waveform, _ in changed], name)
        rates[name] = asdict(score([text for _, text in changed], texts))
    generator = np.random.default_rng(1)
    words = {}
    for name, make in NON_SPEECH.items():
        waveforms = [
            _as_recorded(make(_clip_samples(model, generator), model, generator, others))
            for _ in range(CLIPS_OF_A_KIND)
        ]
        texts = _transcribe(model, waveforms, name)
        words[name] = {"clips": len(texts), "with_words": sum(map(bool, texts)), "texts": texts}
    return {"wer": rates, "clips": words}


def _transcribe(model: OpenForm, waveforms: list[Waveform], name: str) -> list[str]:
    """The best hypotheses, decoded in batches of like length."""
    order = np.argsort([waveform.size for waveform in waveforms], kind="stable")
    texts = [""] * len(waveforms)
    for start in tqdm(range(0, len(order), model.batch_size), desc=name, disable=None):
        places = order[start : start + model.batch_size]
        heard = model.decode(*_batch([waveforms[place] for place in places]))
        for place, hypotheses in zip(places, heard, strict=True):
            texts[place] = hypotheses[0].text if hypotheses else ""
    return texts


def _batch(waveforms: list[Waveform]) -> tuple[np.ndarray, np.ndarray]:
    """The waveforms, padded, and their lengths."""
    num_samples = np.array([waveform.size for waveform in waveforms], np.int32)
    padded = np.zeros((len(waveforms), num_samples.max()), np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: waveform.size] = waveform
    return padded, num_samples


def clips_of(path: Path) -> list[Clip]:
    """The waveforms of a store, each with its transcript."""
    return list(_spoken(open_store(path)))


def _spoken(store: Store) -> Iterator[Clip]:
    for record in store.records():
        utterance = record if isinstance(record, UtteranceRecord) else record.utterance
        waveform, _ = soundfile.read(io.BytesIO(utterance.audio), dtype="float32")
        yield waveform, utterance.text or ""


# Speech under other conditions.


def _faint(seconds: float, rate_hz: int, generator: np.random.Generator) -> Waveform:
    noise = generator.standard_normal(round(seconds * rate_hz))
    return _as_recorded(10 ** (FAINT_DBFS / 20) * noise)


def _padded(before: float, after: float) -> Callable:
    def change(clips: list[Clip], rate_hz: int, generator: np.random.Generator) -> list[Clip]:
        return [
            (np.concatenate([_faint(before, rate_hz, generator), waveform,
                             _faint(after, rate_hz, generator)]), text)
            for waveform, text in clips
        ]  # fmt: skip

    return change


def _joined(seconds: float) -> Callable:
    """Utterances in random order, one after the other until they last at least so long."""

    def change(clips: list[Clip], rate_hz: int, generator: np.random.Generator) -> list[Clip]:
        joined: list[Clip] = []
        waveforms: list[Waveform] = []
        texts: list[str] = []
        for place in generator.permutation(len(clips)):
            waveform, text = clips[place]
            if waveforms:
                waveforms.append(_faint(SECONDS_BETWEEN, rate_hz, generator))
            waveforms.append(waveform)
            texts.append(text)
            if sum(each.size for each in waveforms) >= seconds * rate_hz:
                joined.append((np.concatenate(waveforms), " ".join(texts)))
                waveforms, texts = [], []
        return joined

    return change


CONDITIONS: dict[str, Callable] = {
    "in domain": _padded(0, 0),
    "3 s of noise after": _padded(0, 3),
    "10 s of noise after": _padded(0, 10),
    "3 s of noise before": _padded(3, 0),
    "10 s of noise before": _padded(10, 0),
    "joined to 14 s": _joined(12.8),
    "joined to 27 s": _joined(25.8),
}


# Sounds in which nothing is said.


def _clip_samples(model: OpenForm, generator: np.random.Generator) -> int:
    return round(generator.uniform(*CLIP_SECONDS) * model.sample_rate_hz)


def _silence(num_samples: int, model: OpenForm, generator, others) -> Waveform:
    """Digital zero, or the noise of a quiet recording."""
    level_db = generator.choice([-np.inf, -85.0, -70.0, -60.0])
    return 10 ** (level_db / 20) * generator.standard_normal(num_samples)


def _hiss(num_samples: int, model: OpenForm, generator, others) -> Waveform:
    """White noise through a filter of one pole, at -50 to -20 dBFS."""
    pole = generator.choice([0.0, 0.5, -0.5, 0.9])
    noise = generator.standard_normal(num_samples)
    response = pole ** np.arange(64)
    return _at(np.convolve(noise, response)[:num_samples], generator.uniform(-50, -20))


def _hum(num_samples: int, model: OpenForm, generator, others) -> Waveform:
    """A rectified mains, as transformers sound, at -45 to -15 dBFS."""
    frequency = generator.choice([50.0, 60.0, 100.0, 120.0])
    seconds = np.arange(num_samples) / model.sample_rate_hz
    wave = np.abs(np.sin(np.pi * frequency * seconds)) ** generator.uniform(0.3, 2.0)
    return _at(wave - wave.mean(), generator.uniform(-45, -15))


def _music(num_samples: int, model: OpenForm, generator, others) -> Waveform:
    """A melody by frequency modulation over a bass, with a beat of noise, at -35 to -12 dBFS."""
    rate_hz = model.sample_rate_hz
    wave = np.zeros(num_samples)
    beat = round(rate_hz * generator.uniform(0.2, 0.5))
    scale = 220 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16]) / 12)
    index = generator.uniform(0.5, 4.0)
    for number, start in enumerate(range(0, num_samples, beat)):
        seconds = np.arange(min(2 * beat, num_samples - start)) / rate_hz
        frequency, fall = generator.choice(scale), np.exp(-4 * seconds)
        modulation = index * np.sin(2 * np.pi * 2 * frequency * seconds)
        note = np.sin(2 * np.pi * frequency * seconds + modulation)
        bass = np.sin(2 * np.pi * (scale[number // 4 % 5] / 4) * seconds)
        drum = 0.3 * generator.standard_normal(seconds.size) * np.exp(-40 * seconds)
        wave[start : start + seconds.size] += (note + bass + drum) * fall
    return _at(wave, generator.uniform(-35, -12))


def _babble(num_samples: int, model: OpenForm, generator, others) -> Waveform:
    """Four to six other people at once, at -40 to -20 dBFS."""
    wave = np.zeros(num_samples)
    for place in generator.choice(len(others), generator.integers(4, 7), replace=False):
        wave += _at(np.resize(others[place], num_samples), 0.0)
    return _at(wave, generator.uniform(-40, -20))


NON_SPEECH: dict[str, Callable] = {
    "silence": _silence, "hiss": _hiss, "hum": _hum, "music": _music, "babble": _babble,
}  # fmt: skip


def _at(waveform: Waveform, level_db: float) -> Waveform:
    return waveform * 10 ** (level_db / 20) / np.sqrt(np.mean(np.square(waveform)))


def _as_recorded(waveform: Waveform) -> Waveform:
    """In 16 bits, and back."""
    samples = np.clip(np.round(waveform * 2**15), -(2**15), 2**15 - 1)
    return (samples / 2**15).astype(np.float32)


# What is shown.


def _conditions_table(models: dict) -> str:
    rows = [
        [condition, *(f"{100 * each['wer'][condition]['wer']:.2f}" for each in models.values())]
        for condition in CONDITIONS
    ]
    return table(["WER %", *models], rows)


def _clips_table(models: dict) -> str:
    counts = [
        [each["clips"][kind]["with_words"] for kind in NON_SPEECH] for each in models.values()
    ]
    rows = [
        [f"{kind} ({CLIPS_OF_A_KIND})", *(str(row[number]) for row in counts)]
        for number, kind in enumerate(NON_SPEECH)
    ]
    total = [f"all ({CLIPS_OF_A_KIND * len(NON_SPEECH)})", *(str(sum(row)) for row in counts)]
    return table(["clips with words", *models], [*rows, total])


def page(title: str, source: str, models: dict) -> str:
    """A page of the figures of models, which are in the file `source`."""
    return (
        f"# {title}\n\nWritten by `benchmarks/robustness.py --page` from"
        f" `{source}`.\n\n```\n{_conditions_table(models)}\n```\n\n"
        f"```\n{_clips_table(models)}\n```\n"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="*", help="runs, SavedModels or .tflite files")
    parser.add_argument("--store", type=Path, help="prepared test utterances")
    parser.add_argument("--others", type=Path, help="prepared speech of others, for babble")
    parser.add_argument("--set", action="append", default=[], help="of a run's decoding")
    parser.add_argument("--name", help="of the model in the results; the file's by default")
    parser.add_argument("--out", type=Path, required=True, help="the figures are added to these")
    parser.add_argument("--page", type=Path, help="write the tables of all models here")
    parser.add_argument("--title", default="Robustness")
    options = parser.parse_args()
    if options.models and not (options.store and options.others):
        parser.error("models are measured on --store and --others")
    return options


if __name__ == "__main__":
    main()
