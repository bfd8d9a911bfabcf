"""A corpus that a tiny recogniser learns within seconds, and what the stages make of it.

Each word is a tone of its own, so the tests need no speech and no download. Everything costly is
made once a session; a test that changes a folder works on a copy.
"""

from __future__ import annotations

import dataclasses
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import forks
import numpy as np
import pytest
import soundfile

from tfkd.config import ExportConfig, LabelConfig, PrepareConfig, SystemConfig, from_dict

if TYPE_CHECKING:
    from tfkd.decoding.runs import Run
    from tfkd.exporting.export import Exported
    from tfkd.records import Store

# TensorFlow logs at error level that it found no GPU libraries; child processes inherit this.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

pytest_plugins = ["proof"]

RATE_HZ = 8000
WORDS_HZ = {"ba": 400, "di": 700, "ko": 1150, "mu": 1900, "se": 3000}
UTTERANCES = {"train": 24, "valid": 6, "test": 6}
PREPARE = PrepareConfig(sample_rate_hz=RATE_HZ, shard_size=4)
LABELS = LabelConfig(beam_width=3, num_hypotheses=2, batch_size=4)
EXPORT = ExportConfig(
    formats=("savedmodel", "tflite-float32", "tflite-float16", "tflite-int8"),
    beam_width=2,
    num_hypotheses=2,
    max_seconds=5.0,
    max_wer_change=1.0,
    max_wer_to_keras=1.0,
)
SYSTEM = {
    "tokenizer": {"alphabet": " abdeikmosu"},
    "model": {
        "frontend": {
            "sample_rate_hz": RATE_HZ,
            "num_mels": 20,
            "max_hz": 3800.0,
            "window_ms": 32.0,
            "hop_ms": 20.0,
        },
        "spec_augment": {"frequency_masks": 0, "time_masks": 0},
        "encoder": {"layers": 1, "units": 24, "conv_units": 24, "time_reduction": 2},
        "attention": {"units": 24},
        "decoder": {"units": 32, "embedding_units": 12},
    },
    "training": {
        "epochs": 18,
        "batch_size": 4,
        "learning_rate": 1.5e-2,
        "final_learning_rate": 1e-3,
        "warmup_steps": 5,
        "label_smoothing": 0.0,
        "speed_factors": [1.0],
        "patience": 100,
    },
    "decoding": {"beam_width": 2, "max_tokens": 14},
}


def say(text: str, generator: np.random.Generator) -> np.ndarray:
    """Float waveform [N]: a tone for each word, gaps between them, faint noise."""
    parts = []
    for word in text.split():
        time = np.arange(round(RATE_HZ * generator.uniform(0.18, 0.26))) / RATE_HZ
        tone = 0.4 * np.sin(2 * np.pi * WORDS_HZ[word] * time)
        parts += [np.zeros(RATE_HZ // 25), tone * np.hanning(time.size) ** 0.25]
    waveform = np.concatenate([*parts, np.zeros(RATE_HZ // 20)])
    return waveform + 0.003 * generator.standard_normal(waveform.size)


# Fixtures that run a whole job, sweep or tuning: half a minute of a core, whichever test is first.
_WHOLE_JOBS = {"finished_job", "swept", "trials"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what kills, damages, fuzzes or runs whole jobs as slow: only `make test` runs it."""
    for item in items:
        fixtures = _WHOLE_JOBS & set(getattr(item, "fixturenames", ()))
        if fixtures or {"reliability", "fuzz"} & set(item.path.parts):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def own_cache(once) -> Iterator[None]:
    """Keeps what tests export and try apart from the files that this user's tfkd knows."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(once("cache", Path.mkdir)))
        yield


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Trains without graphs: tracing them is most of a short training, and callbacks see none."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        # tf.data keeps its graphs all the same, and says so.
        warnings.filterwarnings("ignore", "Even though the", UserWarning)
        yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def rate_hz() -> int:
    return RATE_HZ


@pytest.fixture(scope="session")
def speak() -> Callable[..., Path]:
    """Writes what `text` sounds like to a file of any format that soundfile knows."""

    def write(path: Path, text: str, seed: int = 0) -> Path:
        soundfile.write(path, say(text, np.random.default_rng(seed)), RATE_HZ)
        return path

    return write


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder once a session: the first of several workers makes it, the others wait."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def make(name: str, build: Callable[[Path], object]) -> Path:
        made = root / f"{name}.made"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                build(root / name)
                made.touch()
        return root / name

    return make


@pytest.fixture(scope="session")
def tiny_corpus(once, speak) -> Path:
    """Folder with train, valid and test.jsonl; one recording of train is missing."""
    return once("corpus", lambda directory: write_corpus(directory, speak))


def write_corpus(directory: Path, speak: Callable[..., Path]) -> None:
    """Writes what `tiny_corpus` promises."""
    directory.mkdir()
    generator = np.random.default_rng(0)
    seeds = itertools.count()
    for split, count in UTTERANCES.items():
        rows = []
        for number in range(count):
            words = generator.choice(list(WORDS_HZ), 1 + number % 2, replace=False)
            suffix = "wav" if split == "test" or number % 3 else "flac"
            row = {"utterance_id": f"{split}-{number:02d}", "text": " ".join(words)}
            row["audio"] = f"{row['utterance_id']}.{suffix}"
            speak(directory / row["audio"], row["text"], next(seeds))
            rows.append(row)
        if split == "train":
            rows.append({"utterance_id": "train-lost", "text": "ba", "audio": "lost.wav"})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / f"{split}.jsonl").write_text(lines)


@pytest.fixture(scope="session")
def prepare_config() -> PrepareConfig:
    return PREPARE


@pytest.fixture(scope="session")
def prepared(tiny_corpus, once) -> dict[str, Store]:
    """The finished store of each split; that of train has six shards."""
    from tfkd.data.preparation import prepare
    from tfkd.records import open_store

    def build(directory: Path) -> None:
        for split in UTTERANCES:
            prepare(tiny_corpus / f"{split}.jsonl", directory / split, PREPARE)

    directory = once("prepared", build)
    return {split: open_store(directory / split) for split in UTTERANCES}


@pytest.fixture(scope="session")
def tiny_system() -> SystemConfig:
    return from_dict(SystemConfig, SYSTEM)


@pytest.fixture(scope="session")
def tiny_settings() -> dict:
    """`tiny_system` as the mapping that a YAML file would hold."""
    return json.loads(json.dumps(SYSTEM))


@pytest.fixture(scope="session")
def teacher(prepared, tiny_system, once) -> Run:
    """A recogniser that knows the five words."""
    from tfkd.decoding.runs import load_run

    def build(directory: Path) -> None:
        from tfkd.training.loop import train

        train(tiny_system, prepared["train"], prepared["valid"], directory)

    return load_run(once("teacher", build))


@pytest.fixture(scope="session")
def label_config() -> LabelConfig:
    return LABELS


@pytest.fixture(scope="session")
def labels(teacher, prepared, once) -> Store:
    """What the teacher says of train: one shard of labels for each of the six shards."""
    from tfkd.distillation.labelling import label
    from tfkd.records import open_store

    return open_store(once("labels", lambda out: label(teacher, prepared["train"], out, LABELS)))


@pytest.fixture(scope="session")
def export_config() -> ExportConfig:
    return EXPORT


@pytest.fixture(scope="session")
def exports(teacher, prepared, once) -> dict[str, Exported]:
    """The teacher in every form, by format; `path` is absolute."""
    from tfkd.exporting.export import REPORT, Exported, export

    out = once("exports", lambda out: export(teacher, out, EXPORT, prepared["valid"]))
    reports = [Exported(**row) for row in json.loads((out / REPORT).read_text())]
    return {r.format: dataclasses.replace(r, path=str(out / r.path)) for r in reports}


@pytest.fixture(scope="session")
def fault_library(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """faults.c, compiled; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).parent / "reliability" / "faults.c"
    command = [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(scope="session")
def fork_server(fault_library: Path | None) -> None:
    """Lets `forks.fork` work."""
    forks.start_server(fault_library)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real speech, where there is one."""
    beside = Path(__file__).parent.parent.parent / "shared" / "data"
    directory = Path(os.environ.get("TFKD_SHARED_DATA", beside))
    if not directory.is_dir():
        pytest.skip(f"no real speech in {directory}: set TFKD_SHARED_DATA")
    return directory
