"""tfkd's Whisper from waveforms to the five best, as `tfkd label` runs it."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import timed_process
import whisper_clips

from tfkd.config import DecodingConfig, WhisperConfig
from tfkd.malloc import share_one_heap


def main() -> None:
    options = whisper_clips.arguments()
    share_one_heap()
    timed_process.limit_threads(options.threads)
    from tfkd.models.whisper.folder import load_whisper
    from tfkd.models.whisper.search import WhisperSearch

    base_mb = timed_process.resident_mb()
    width = whisper_clips.WIDTH
    config = DecodingConfig(
        beam_width=width, num_hypotheses=width, max_tokens=whisper_clips.MAX_TOKENS
    )
    folder = load_whisper(options.folder)
    search = WhisperSearch(folder.model, folder.tokens, config, WhisperConfig(language="en"))
    batches = whisper_clips.batches(options.clips, options.batch)

    def run() -> None:
        for waveform, num_samples in batches:
            search.decode(waveform, num_samples).score.numpy()

    timed_process.report(run, options.repeats, base_mb)


if __name__ == "__main__":
    main()
