"""CTranslate2's Whisper in float32, from features that were computed before."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ctranslate2
import numpy as np
import timed_process
import whisper_clips

from tfkd.models.whisper.folder import load_whisper


def main() -> None:
    options = whisper_clips.arguments()
    timed_process.limit_threads(1)
    folder = load_whisper(options.folder)
    tokens = folder.tokens
    prompt = [tokens.start_id, *tokens.prompt_after_start("en", "transcribe")]
    features = [
        np.ascontiguousarray(folder.model.frontend(waveform).numpy().transpose(0, 2, 1))
        for waveform, _ in whisper_clips.batches(options.clips, options.batch)
    ]
    del folder
    base_mb = timed_process.resident_mb()
    model = ctranslate2.models.Whisper(
        options.folder, compute_type="float32", intra_threads=options.threads
    )

    def run() -> None:
        for own in features:
            model.generate(
                ctranslate2.StorageView.from_array(own),
                [prompt] * len(own),
                beam_size=whisper_clips.WIDTH,
                num_hypotheses=options.hypotheses,
                length_penalty=0,
                max_length=2 * whisper_clips.MAX_TOKENS,  # it takes half of it
            )

    timed_process.report(run, options.repeats, base_mb)


if __name__ == "__main__":
    main()
