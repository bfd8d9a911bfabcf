"""The times of tokens on the likeliest CTC path, by brute force and in transcripts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfkd.decoding.ctc_alignment import token_frames


def spelled(path) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token)


def expected(log_probs: np.ndarray, ids: tuple[int, ...]) -> list[int] | None:
    """Where tokens begin on the best of all paths that spell them."""
    frames, size = log_probs.shape
    paths = [p for p in itertools.product(range(size), repeat=frames) if spelled(p) == ids]
    if not paths:
        return None
    best = max(paths, key=lambda path: sum(log_probs[range(frames), path]))
    return [
        frame
        for frame, token in enumerate(best)
        if token and (frame == 0 or best[frame - 1] != token)
    ]


@pytest.mark.parametrize("ids", [(), (1,), (2, 1), (1, 1), (1, 1, 2), (2, 2, 2), (1, 2, 1, 2)])
def test_frames_are_those_of_the_best_of_all_paths(ids):
    for seed, frames in itertools.product(range(8), range(7)):
        log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(3), frames))
        assert token_frames(log_probs, ids, blank=0) == expected(log_probs, ids)


def test_words_of_a_transcript_are_in_order_and_where_ctc_hears_them(teacher, prepared, tmp_path):
    import soundfile

    for record in prepared["test"].records():
        path = tmp_path / "said.flac"
        path.write_bytes(record.audio)
        transcript = teacher.transcribe(path)
        starts = [word.start for word in transcript.words]
        assert starts == sorted(set(starts))
        assert all(word.start < word.end for word in transcript.words)
        assert all(word.end <= soundfile.info(path).duration + 0.1 for word in transcript.words)
