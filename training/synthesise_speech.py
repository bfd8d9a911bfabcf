"""Makes a small corpus of spoken device commands with a speech synthesiser, without any download.

One voice speaks a closed grammar; speed, pitch, level and noise vary. The corpus shows that every
stage works from audio to .tflite; it says nothing about accuracy on real speech.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tfkd.audio.flac import encode_flac
from tfkd.audio.reading import decode_audio
from tfkd.audio.resampling import resample
from tfkd.errors import AudioError, ConfigError, TfkdError
from tfkd.storage.files import atomic_write, sha256, write_json, write_text

EXAMPLE = "example: python training/synthesise_speech.py --out work/commands --seed 0"
SAMPLE_RATE_HZ = 16000
VOICE = "heart"  # lies in the package; the other voices of hibari would be downloaded
# So many to test on that a difference of two points of WER can be told from chance.
UTTERANCES = {"train": 1000, "valid": 80, "test": 500}
HELD_OUT_SENTENCES = {"valid": 24, "test": 36}
SPEEDS = (0.85, 1.0, 1.2)
# Reading the 24 kHz voice as if it had another rate shifts its pitch by -8 % to +8 %. These rates
# are in small ratios to 16 kHz, which keeps the resampler cheap.
READ_AS_HZ = (22000, 24000, 26000)
SPEECH_FLOOR = 0.005  # of the loudest sample: what lies below it at both ends is trimmed
MARGIN_SAMPLES = (800, 4000)  # 50 to 250 ms before and after the speech
SNR_DB = (12.0, 35.0)
PEAK = (0.1, 0.9)  # of full scale: nothing clips

GRAMMAR = """
turn the kitchen|bedroom|bathroom|garage lights|fan|heater on|off
turn on|off the kitchen|bedroom|bathroom|garage lights|fan|heater
set a timer for two|five|ten|twenty|twenty_two|twenty_five|thirty|thirty_five minutes|seconds
set the kitchen|bedroom|bathroom|garage heater to ten|twenty|twenty_two|twenty_five|thirty
open|close|lock the front|back|garage door
play|stop the music|song
play the next song
volume up|down
turn the volume up|down
what time is it
what is the weather today|tomorrow
"""


def all_sentences() -> list[str]:
    """Every sentence of the grammar, and with "please" before those of at most six words."""
    rules = [[word.split("|") for word in rule.split()] for rule in GRAMMAR.strip().splitlines()]
    plain = [" ".join(words) for rule in rules for words in itertools.product(*rule)]
    sentences = [sentence.replace("_", " ") for sentence in plain]
    askable = (each for each in sentences if len(each.split()) < 7 and "what" not in each)
    return sentences + [f"please {each}" for each in askable]


def split_sentences(generator: np.random.Generator) -> dict[str, list[str]]:
    """Disjoint sentences for each split, such that train holds every word."""
    train: list[str] = []
    others: list[str] = []
    heard: set[str] = set()
    for sentence in map(str, generator.permutation(all_sentences())):
        (others if heard.issuperset(sentence.split()) else train).append(sentence)
        heard.update(sentence.split())
    held_out = {name: [others.pop() for _ in range(n)] for name, n in HELD_OUT_SENTENCES.items()}
    return {"train": train + others, **held_out}


@functools.cache
def load_voice() -> Callable[..., np.ndarray]:
    """The synthesiser, a function from text to waveform [N] at 24 kHz."""
    try:
        from hibari import Hibari
    except ImportError as error:
        raise ConfigError("no synthesiser", remedy="pip install hibari-tts") from error
    return Hibari(voice=VOICE, threads=1)


def trimmed(waveform: np.ndarray) -> np.ndarray:
    """The part of a waveform [N] between its first and last sample that is not near silence."""
    loud = np.flatnonzero(np.abs(waveform) > SPEECH_FLOOR * np.abs(waveform).max())
    return waveform[loud[0] : loud[-1] + 1]


def varied(speech: np.ndarray, rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Speech [N] with another pitch, margins, noise between white and pink, and another level."""
    speech = resample(speech, rate_hz, SAMPLE_RATE_HZ)
    clean = np.pad(speech, generator.integers(*MARGIN_SAMPLES, size=2))
    size = 1 << int(clean.size).bit_length()  # odd lengths make the Fourier transform slow
    spectrum = np.fft.rfft(generator.standard_normal(size))
    spectrum *= np.arange(1, spectrum.size + 1) ** -generator.uniform(0.0, 0.5)
    noise = np.fft.irfft(spectrum)[: clean.size]
    noise_power = np.mean(speech**2) / 10 ** (generator.uniform(*SNR_DB) / 10)
    noisy = clean + noise * np.sqrt(noise_power / np.mean(noise**2))
    return (noisy * (generator.uniform(*PEAK) / np.abs(noisy).max())).astype(np.float32)


def synthesise_corpus(out: Path, seed: int) -> None:
    """Writes `out`/audio/*.flac and `out`/{train,valid,test}.jsonl; keeps files that are complete.

    Raises:
      ConfigError: if `out` holds a corpus of another seed or another state of this script.
    """
    settings = {"seed": seed, "script_sha256": sha256(__file__)}
    made_with = out / "synthesis.json"
    if made_with.exists() and json.loads(made_with.read_text()) != settings:
        raise ConfigError("made with another seed or script", path=out, remedy="use another --out")
    write_json(made_with, settings)
    say = functools.cache(lambda text, speed: trimmed(load_voice()(text, speed=speed, seed=seed)))
    sentences = split_sentences(np.random.default_rng(seed))
    rows: dict[str, list[str]] = {split: [] for split in UTTERANCES}
    plan = [(split, number) for split, count in UTTERANCES.items() for number in range(count)]
    for split, number in tqdm(plan, unit="utterance", disable=None):
        # One generator an utterance: a rerun that skips files draws the same for the others.
        generator = np.random.default_rng([seed, list(UTTERANCES).index(split), number])
        text = sentences[split][number % len(sentences[split])]
        speed, rate_hz = generator.choice(SPEEDS), int(generator.choice(READ_AS_HZ))
        path = out / "audio" / f"{split}-{number:04d}.flac"
        try:
            waveform, _ = decode_audio(path.read_bytes(), name=str(path))
        except (FileNotFoundError, AudioError):
            waveform = varied(say(text, speed), rate_hz, generator)
            with atomic_write(path) as file:
                file.write(encode_flac(waveform, SAMPLE_RATE_HZ))
        row = {"utterance_id": path.stem, "audio": f"audio/{path.name}", "text": text}
        row |= {"speaker": f"{VOICE}-{rate_hz}"}
        rows[split].append(json.dumps(row | {"duration_seconds": waveform.size / SAMPLE_RATE_HZ}))
    for split, lines in rows.items():
        write_text(out / f"{split}.jsonl", "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE)
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same corpus")
    args = parser.parse_args()
    try:
        synthesise_corpus(args.out, args.seed)
    except TfkdError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
