"""Measures what cutting a long recording into segments of several lengths costs a .tflite.

    python benchmarks/long_recordings.py work/export/model-float32.tflite --store work/data/test \
        --name digits --out benchmarks/results/long_recordings.json \
        --page docs/recipes/long-recordings.md

The utterances of the store, in its order, are joined to recordings of at least a
minute, with pauses of 0.3 to 1.2 s of noise as loud as their quietest parts. `DeviceRecogniser`
cuts and recognises them as in `tfkd transcribe`. Figures of models that were measured before stay
in the file; `--page` writes all of them as a page, with or without a model to measure first.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from robustness import Clip, Waveform, clips_of
from synthetic_stores import surroundings
from tqdm import tqdm

from tfkd.device import DeviceRecogniser
from tfkd.metrics import score
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json, write_text

RECORDING_SECONDS = 60.0
PAUSE_SECONDS = (0.3, 1.2)
SEGMENT_SECONDS = (3.0, 5.0, 8.0, 12.0, 15.0, 20.0, 30.0)
FRAME_SECONDS, QUIET_SHARE, LEAST_AMPLITUDE = 0.01, 0.05, 1e-4


def main() -> None:
    options = _options()
    known = json.loads(options.out.read_text())["models"] if options.out.exists() else {}
    if options.model:
        recogniser = DeviceRecogniser(options.model)
        known[options.name or options.model.stem] = _measure(recogniser, clips_of(options.store))
        write_json(options.out, {**surroundings(), "models": known})
    print(_table(known))
    if options.page:
        write_text(options.page, _page(options, known))


def _measure(recogniser: DeviceRecogniser, clips: list[Clip]) -> dict[str, Any]:
    rate_hz = recogniser.metadata.sample_rate_hz
    usual_seconds = recogniser.metadata.usual_samples / rate_hz
    recordings = _joined(clips, rate_hz)
    seconds = sum(waveform.size for waveform, _ in recordings) / rate_hz
    lengths = [
        each for each in SEGMENT_SECONDS if each * rate_hz <= recogniser.metadata.max_samples
    ]
    return {
        "parameters": recogniser.metadata.parameters,
        "recordings": len(recordings),
        "mean_seconds": seconds / len(recordings),
        "usual_seconds": usual_seconds,
        "wer_alone": _wer(recogniser, clips, recogniser.metadata.max_samples / rate_hz),
        "wer": _wer(recogniser, recordings, usual_seconds),
        "wer_by_seconds": {f"{each:g}": _wer(recogniser, recordings, each) for each in lengths},
    }


def _wer(recogniser: DeviceRecogniser, clips: list[Clip], segment_seconds: float) -> float:
    shown = tqdm(clips, desc=f"{segment_seconds:.1f} s", disable=None)
    texts = [recogniser.transcribe(waveform, segment_seconds).text for waveform, _ in shown]
    return score([text for _, text in clips], texts).wer


def _joined(clips: list[Clip], rate_hz: int) -> list[Clip]:
    generator = np.random.default_rng(0)
    joined: list[Clip] = []
    parts: list[Waveform] = []
    texts: list[str] = []
    for waveform, text in clips:
        pause = generator.standard_normal(round(generator.uniform(*PAUSE_SECONDS) * rate_hz))
        parts += [waveform, (pause * _quietest(waveform, rate_hz)).astype(np.float32)]
        texts.append(text)
        if sum(part.size for part in parts) >= RECORDING_SECONDS * rate_hz:
            joined.append((np.concatenate(parts), " ".join(texts)))
            parts, texts = [], []
    return joined


def _quietest(waveform: Waveform, rate_hz: int) -> float:
    """The root mean square of its quietest frames."""
    length = round(FRAME_SECONDS * rate_hz)
    frames = waveform[: waveform.size // length * length].reshape(-1, length)
    levels = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))
    return max(float(np.quantile(levels, QUIET_SHARE)), LEAST_AMPLITUDE)


def _table(models: dict[str, Any]) -> str:
    rows = [["utterances alone", *(_percent(each["wer_alone"]) for each in models.values())]]
    rows += [["minutes, cut by default", *(_percent(each["wer"]) for each in models.values())]]
    rows += [
        [f"cut to {name:g} s", *(_percent(each["wer_by_seconds"].get(f"{name:g}"))
                                 for each in models.values())]
        for name in SEGMENT_SECONDS
    ]  # fmt: skip
    return table(["WER %", *models], rows)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _page(options: argparse.Namespace, models: dict[str, Any]) -> str:
    lines = [
        f"{name}: {each['recordings']} recordings of {each['mean_seconds']:.0f} s on average; "
        f"by default they are cut to {each['usual_seconds']:.1f} s, which 95 % of the utterances "
        "of its validation data do not exceed."
        for name, each in models.items()
    ]
    return (
        "# Long recordings\n\nWritten by `benchmarks/long_recordings.py --page` from"
        f" `{options.out}`.\n\n```\n{_table(models)}\n```\n\n" + "\n\n".join(lines) + "\n"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="a .tflite file")
    parser.add_argument("--store", type=Path, help="prepared test utterances")
    parser.add_argument("--name", help="of the model in the results; the file's by default")
    parser.add_argument("--out", type=Path, required=True, help="the figures are added to these")
    parser.add_argument("--page", type=Path, help="write the table of all models here")
    options = parser.parse_args()
    if options.model and not options.store:
        parser.error("a model is measured on --store")
    return options


if __name__ == "__main__":
    main()
