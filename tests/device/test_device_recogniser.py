"""The device side: metadata inside a .tflite, and a model run by each runtime."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tfkd.device import isolation
from tfkd.device.child_processes import child_command
from tfkd.device.interpreter import RUNTIMES
from tfkd.device.metadata import DeviceMetadata, append_metadata, read_metadata
from tfkd.device.recogniser import DeviceRecogniser
from tfkd.errors import AudioError, CheckpointError, TfkdError
from tfkd.storage import known_files
from tfkd.storage.files import sha256

GRAPH = b"\x1c\x00\x00\x00TFL3" + bytes(range(256))
METADATA = DeviceMetadata(
    sample_rate_hz=16000,
    min_samples=400,
    max_samples=32000,
    usual_samples=16000,
    pieces=("", "", "", "", " tu", "rn", "é"),
    eos_id=3,
    pad_id=0,
    beam_width=4,
    num_hypotheses=3,
    parameters=12,
    quantisation="float32",
    model_sha256="0" * 64,
)

NOT_ON_A_DEVICE = (
    *("tensorflow", "keras", "tensorflow_io", "soundfile", "sentencepiece"),
    *("jiwer", "yaml", "google_crc32c", "tqdm"),
)

# Two hypotheses and an empty slot. The first log_prob is the number of samples, its score their
# sum, so that a test sees what the model was fed.
BUILD_TINY_MODEL = """
import sys
import tensorflow as tf

class Tiny(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.float32, name="waveform")])
    def recognise(self, waveform):
        samples = tf.cast(tf.size(waveform), tf.float32)
        total = tf.reduce_sum(waveform)
        return {
            "token_ids": tf.constant([[[4, 5, 3, 0], [6, 4, 5, 6], [4, 0, 0, 0]]]),
            "num_tokens": tf.constant([[3, 4, 0]]),
            "log_prob": tf.reshape(tf.stack([samples, -2.5, 0.0]), [1, 3]),
            "score": tf.reshape(tf.stack([total, -1.5, float("-inf")]), [1, 3]),
        }

model = Tiny()
tf.saved_model.save(model, sys.argv[1] + ".saved", {sys.argv[2]: model.recognise})
converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1] + ".saved")
open(sys.argv[1], "wb").write(converter.convert())
"""


def run_python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(append_metadata(GRAPH, METADATA))
    return path


@pytest.fixture(scope="module")
def tiny_graph(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("tiny") / "tiny.tflite"
    run_python(BUILD_TINY_MODEL, str(path), "serving_default")
    return path.read_bytes()


@pytest.fixture(scope="module", params=itertools.product(RUNTIMES, [True, False]))
def recogniser(request, tiny_graph: bytes, tmp_path_factory) -> DeviceRecogniser:
    """Each runtime, in this process and in a child."""
    runtime, trusted = request.param
    pytest.importorskip(f"{runtime}.interpreter")
    path = tmp_path_factory.mktemp("model") / "tiny.tflite"
    path.write_bytes(append_metadata(tiny_graph, METADATA))
    return DeviceRecogniser(path, runtime=runtime, trusted=trusted)


def write_wav(path: Path, waveform: np.ndarray, rate_hz: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((waveform * 32767).astype("<i2").tobytes())
    return path


def test_metadata_survives_the_round_trip(model_file):
    assert read_metadata(model_file) == METADATA


def test_the_graph_stays_in_front_and_any_zip_tool_reads_the_rest(model_file):
    assert model_file.read_bytes().startswith(GRAPH)
    with zipfile.ZipFile(model_file) as archive:
        assert archive.testzip() is None
        content = json.loads(archive.read("tfkd.json"))
    assert content["format"] == 1
    assert content["pieces"] == list(METADATA.pieces)


def test_equal_arguments_give_equal_bytes():
    assert append_metadata(GRAPH, METADATA) == append_metadata(GRAPH, METADATA)


def test_appending_again_replaces():
    other = dataclasses.replace(METADATA, beam_width=9)
    twice = append_metadata(append_metadata(GRAPH, METADATA), other)
    assert twice == append_metadata(GRAPH, other)


def test_appending_to_something_else_is_refused():
    with pytest.raises(CheckpointError, match="not a TFLite model"):
        append_metadata(b"PK\x03\x04 not a model", METADATA)


def with_content(graph: bytes, path: Path, content: str) -> Path:
    path.write_bytes(graph)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("tfkd.json", content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1}', "sample_rate_hz = None"),
        ('{"format": 1, "sample_rate_hz": true}', "sample_rate_hz = True"),
    ],
)
def test_wrong_metadata_is_named(tmp_path, content, message):
    path = with_content(GRAPH, tmp_path / "model.tflite", content)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_metadata(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate_hz", 0),
        ("sample_rate_hz", 10**11),
        ("min_samples", 10**12),
        ("min_samples", 0),
        ("max_samples", 0),
        ("max_samples", 10**15),
        ("usual_samples", 0),
        ("usual_samples", 32001),
        ("parameters", 0),
        ("num_hypotheses", 5),
        ("beam_width", 10**6),
        ("eos_id", 7),
        ("pad_id", -1),
        ("pieces", ()),
    ],
)
def test_metadata_out_of_range_is_named(tmp_path, name, value):
    path = tmp_path / "model.tflite"
    path.write_bytes(append_metadata(GRAPH, dataclasses.replace(METADATA, **{name: value})))
    named = "eos_id" if name == "pieces" else name
    with pytest.raises(CheckpointError, match=f"holds metadata with {named} = .*, not ") as raised:
        read_metadata(path)
    assert "\n" not in str(raised.value)


def test_metadata_that_unpacks_to_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(GRAPH)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tfkd.json", " " * (32 * 2**20))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(CheckpointError, match="holds more than 16 MiB of metadata"):
        read_metadata(path)


def test_metadata_that_is_nested_deeply_is_named(tmp_path):
    path = with_content(GRAPH, tmp_path / "model.tflite", "[" * 100_000)
    with pytest.raises(CheckpointError, match="nested too deeply"):
        read_metadata(path)


def test_wrong_files_are_refused(tmp_path):
    path = tmp_path / "model.tflite"
    for content in (b"", b"RIFF", b"x" * 1000, GRAPH, GRAPH + b"PK\x05\x06" + bytes(18)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="tfkd export"):
            read_metadata(path)
    with pytest.raises(CheckpointError, match="No such file"):
        read_metadata(tmp_path / "absent.tflite")
    with pytest.raises(CheckpointError, match="is a folder .give a .tflite file"):
        read_metadata(tmp_path)
    (tmp_path / "model.keras").touch()
    with pytest.raises(CheckpointError, match="is a run, not a .tflite file .*tfkd export"):
        read_metadata(tmp_path)


def test_every_truncation_and_flipped_byte_is_found(tmp_path):
    whole = append_metadata(GRAPH, METADATA)
    path = tmp_path / "model.tflite"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_metadata(path)
    for place in range(4, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        if found := damage_found(path):
            assert "\n" not in found
        else:
            # Some bytes of a zip archive say nothing, its dates for example.
            assert place >= len(GRAPH)
            assert read_metadata(path) == METADATA


def damage_found(path: Path) -> str | None:
    try:
        read_metadata(path)
    except CheckpointError as error:
        return str(error)
    return None


def test_reading_metadata_needs_no_heavy_package(model_file):
    loaded = run_python(
        "import sys; from tfkd import device; device.read_metadata(sys.argv[1]);"
        "print(*(name.partition('.')[0] for name in sys.modules))",
        str(model_file),
    ).split()
    assert not set(NOT_ON_A_DEVICE).intersection(loaded)


def test_transcribing_a_wav_needs_numpy_and_a_runtime_alone(recogniser, tmp_path):
    wav = write_wav(tmp_path / "a.wav", np.full(16000, 0.1), rate_hz=16000)
    said = run_python(
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[4:]))  # None: cannot be imported\n"
        "from tfkd.device.recogniser import DeviceRecogniser\n"
        "recogniser = DeviceRecogniser(sys.argv[1], runtime=sys.argv[2], trusted=True)\n"
        "print(recogniser.transcribe_file(sys.argv[3]))",
        str(recogniser.path),
        recogniser.runtime,
        str(wav),
        *NOT_ON_A_DEVICE,
    )
    assert said.startswith("Transcription(text='turn'")


def test_without_a_runtime_the_remedy_is_named(model_file):
    with pytest.raises(TfkdError, match="pip install 'numpy<2' tflite-runtime"):
        DeviceRecogniser(model_file, runtime="no_such_runtime")


@pytest.mark.slow
def test_a_model_with_another_signature_is_refused(tmp_path):
    path = tmp_path / "other.tflite"
    run_python(BUILD_TINY_MODEL, str(path), "another")
    path.write_bytes(append_metadata(path.read_bytes(), METADATA))
    with pytest.raises(CheckpointError, match="no signature 'serving_default'"):
        DeviceRecogniser(path)


def test_hypotheses_come_best_first_without_empty_slots(recogniser):
    waveform = np.full(1000, 0.25, np.float32)
    best, second = recogniser.transcribe_waveform(waveform)
    assert (best.text, best.token_ids) == ("turn", (4, 5, 3))
    assert (best.log_prob, best.score) == (1000.0, 250.0)
    assert (second.text, second.token_ids) == ("é turné", (6, 4, 5, 6))
    assert (second.log_prob, second.score) == (-2.5, -1.5)
    # Only the first ends with eos, 3.
    assert (best.finish_reason, second.finish_reason) == ("eos", "max_steps")


def test_calls_of_different_lengths_do_not_disturb_each_other(recogniser):
    for size in (1000, 32000, 400, 1000):
        assert recogniser.transcribe_waveform(np.ones(size, np.float32))[0].log_prob == size


def test_a_short_waveform_is_padded_with_zeros(recogniser):
    best = recogniser.transcribe_waveform(np.ones(10))[0]
    assert (best.log_prob, best.score) == (400.0, 10.0)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.zeros(32001, np.float32), r"longer than the model takes \(2.00 s\)"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.zeros((1, 500), np.float32), r"float32 \(1, 500\)"),
        (np.zeros(500, np.int16), "int16"),
    ],
)
def test_unusable_waveforms_are_refused(recogniser, waveform, message):
    with pytest.raises(AudioError, match=message):
        recogniser.transcribe_waveform(waveform)


def test_a_file_is_resampled_and_timed(recogniser, tmp_path):
    path = write_wav(tmp_path / "a.wav", np.full(8000, 0.1), rate_hz=8000)
    result = recogniser.transcribe_file(path)
    assert result.text == "turn"
    (segment,) = result.segments
    assert (segment.start_seconds, segment.end_seconds) == (0.0, 1.0)
    assert len(segment.hypotheses) == 2
    assert segment.hypotheses[0].log_prob == 16000.0
    assert result.audio_seconds == 1.0
    assert 0 < result.compute_seconds < 1


def test_a_long_recording_is_cut_where_it_is_quietest(recogniser, tmp_path):
    waveform = np.full(56000, 0.1)
    for pause in (14000, 29000, 40000):
        waveform[pause - 2400 : pause + 2400] = 0.0
    result = recogniser.transcribe_file(write_wav(tmp_path / "long.wav", waveform, 16000))
    bounds = [0.0, *(each.end_seconds for each in result.segments)]
    assert bounds[:-1] == [each.start_seconds for each in result.segments]
    np.testing.assert_allclose(
        np.multiply(bounds, 16000), [0, 14000, 29000, 40000, 56000], atol=160
    )
    # The model says how many samples it was given.
    given = [each.hypotheses[0].log_prob for each in result.segments]
    np.testing.assert_allclose(given, np.diff(bounds) * 16000, rtol=1e-6)
    assert sum(given) == 56000
    assert result.text == "turn turn turn turn"
    assert result.audio_seconds == 3.5
    assert len(recogniser.transcribe(waveform, segment_seconds=2.0).segments) == 2


def test_a_recording_little_longer_than_utterances_is_taken_whole(recogniser):
    assert [
        len(recogniser.transcribe(np.full(samples, 0.1)).segments) for samples in (20000, 20001)
    ] == [1, 2]


def test_a_recording_little_longer_than_the_model_takes_is_cut(recogniser):
    counts = [
        len(recogniser.transcribe(np.full(samples, 0.1), segment_seconds=2.0).segments)
        for samples in (32000, 32001)
    ]
    assert counts == [1, 2]


@pytest.mark.parametrize(
    ("seconds", "remedy"),
    [
        (0.0, "give more than 0"),
        (-1.0, "give more than 0"),
        (np.nan, "give more than 0"),
        (2.1, "the model takes at most 2 s"),
    ],
)
def test_segments_that_the_model_does_not_take_are_refused(recogniser, seconds, remedy):
    with pytest.raises(TfkdError, match=rf"segments of .* \({remedy}"):
        recogniser.transcribe(np.full(800, 0.1), segment_seconds=seconds)


def test_a_faulty_sample_of_a_long_recording_is_found_before_any_work(recogniser, monkeypatch):
    waveform = np.full(160000, 0.1)
    waveform[-1] = np.nan
    monkeypatch.setattr(recogniser, "transcribe_waveform", None)
    with pytest.raises(AudioError, match="NaN"):
        recogniser.transcribe(waveform)


def test_files_of_earlier_versions_take_recordings_as_long_as_the_model_does(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(append_metadata(GRAPH, METADATA))
    with zipfile.ZipFile(path) as archive:
        content = json.loads(archive.read("tfkd.json"))
    del content["usual_samples"]
    earlier = with_content(GRAPH, tmp_path / "earlier.tflite", json.dumps(content))
    assert read_metadata(earlier) == dataclasses.replace(METADATA, usual_samples=32000)


# --- threads, forks, and files of unknown origin


def run_with(recogniser: DeviceRecogniser, code: str) -> str:
    """Runs code in a process that may crash; `load` makes the recogniser there."""
    return run_python(
        "import os, sys, threading, numpy as np\n"
        "from tfkd.device import DeviceRecogniser\n"
        "from tfkd.errors import TfkdError\n"
        "def load(**settings):\n"
        "    settings = {'trusted': True} | settings\n"
        "    return DeviceRecogniser(sys.argv[1], runtime=sys.argv[2], **settings)\n" + code,
        str(recogniser.path),
        recogniser.runtime,
    )


def test_threads_may_share_a_recogniser(recogniser):
    """Two calls at once on one interpreter are a segmentation fault."""
    said = run_with(
        recogniser,
        "recogniser, wrong = load(), []\n"
        "def call(size):\n"
        "    for _ in range(200):\n"
        "        best = recogniser.transcribe_waveform(np.ones(size, np.float32))[0]\n"
        "        if best.log_prob != size: wrong.append(best)\n"
        "threads = [threading.Thread(target=call, args=(1000 + n,)) for n in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(wrong)",
    )
    assert said == "[]\n"


def test_a_fork_of_several_threads_is_told_to_load_its_own(recogniser):
    code = (
        "recogniser = load(num_threads={threads}, trusted={trusted})\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        print(recogniser.transcribe_waveform(np.ones(1000, np.float32))[0].text)\n"
        "    except TfkdError as error:\n"
        "        print(error)\n"
        "    sys.stdout.flush()\n"
        "    os._exit(0)\n"
        "os.wait()"
    )
    said = {
        (threads, trusted): run_with(recogniser, code.format(threads=threads, trusted=trusted))
        for threads, trusted in [(1, True), (2, True), (2, False)]
    }
    assert "load it in each process" in said.pop((2, True))
    assert set(said.values()) == {"turn\n"}


def test_no_thread_is_refused_by_its_name(model_file):
    with pytest.raises(TfkdError, match="num_threads is 0"):
        DeviceRecogniser(model_file, 0)


def test_coverage_is_unknown_where_a_file_does_not_give_it(recogniser):
    assert recogniser.transcribe_waveform(np.ones(1000))[0].coverage is None


@pytest.fixture
def strange(tiny_graph, tmp_path) -> list[Path]:
    """Graphs with some bytes changed and a digest that was computed again."""
    generator, paths = np.random.default_rng(5), []
    for number in range(8):
        graph = bytearray(tiny_graph)
        for place in generator.integers(8, len(graph), 12):
            graph[place] = generator.integers(256)
        paths.append(tmp_path / f"{number}.tflite")
        paths[-1].write_bytes(append_metadata(bytes(graph), METADATA))
    return paths


@pytest.mark.slow
def test_a_strange_graph_never_takes_its_caller_down(strange, tmp_path):
    wav = write_wav(tmp_path / "a.wav", np.full(16000, 0.1), rate_hz=16000)
    refused = 0
    for path in strange:
        command = [sys.executable, "-m", "tfkd", "transcribe", str(path), str(wav)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode in (0, 1), done
        lines = done.stderr.splitlines()
        if done.returncode:
            assert lines[-1].startswith(f"tfkd: error: {path}: "), lines
            assert "Traceback" not in done.stderr
            refused += 1
    assert refused >= 4


# A runtime whose model says the number of its process, and dies, sleeps or fails by the number of
# samples that it hears. Its name is given as `runtime`.
ACTOR = """
import os, signal, time
import numpy as np

class Interpreter:
    def __init__(self, model_path, num_threads):
        if "dies" in model_path:
            os.kill(os.getpid(), signal.SIGSEGV)

    def get_signature_list(self):
        outputs = ["token_ids", "num_tokens", "log_prob", "score"]
        return {"serving_default": {"inputs": ["waveform"], "outputs": outputs}}

    def get_signature_runner(self, name):
        return recognise

def recognise(waveform):
    print("This goes nowhere.", flush=True)
    samples = waveform.size
    if samples == 1001:
        os.kill(os.getpid(), signal.SIGSEGV)
    if samples == 1002:
        time.sleep(60)
    if samples == 1003:
        raise RuntimeError("no such operator")
    if samples == 1004:
        raise MemoryError
    token = 99 if samples == 1005 else 6
    return {
        "token_ids": np.full([1, 1, 1], token, np.float32 if samples == 1006 else np.int32),
        "num_tokens": np.ones([1, 1], np.int32),
        "log_prob": np.full([1, 1], os.getpid(), np.float32),
        "score": np.full([1, 1], samples, np.float32),
    }
"""


@pytest.fixture
def actor(tmp_path, monkeypatch) -> Path:
    """A .tflite that this machine did not export, for the runtime "actor"."""
    package = tmp_path / "runtimes" / "actor"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(ACTOR)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    path = tmp_path / "model.tflite"
    path.write_bytes(append_metadata(GRAPH, METADATA))
    return path


def process_of(recogniser: DeviceRecogniser, samples: int = 1000) -> int:
    (best,) = recogniser.transcribe_waveform(np.zeros(samples))
    assert best.score == samples
    return int(best.log_prob)


def test_a_file_from_elsewhere_runs_in_another_process(actor, monkeypatch, tmp_path):
    foreign = DeviceRecogniser(actor, runtime="actor")
    process = process_of(foreign)
    assert process == process_of(foreign) != os.getpid()
    assert process_of(DeviceRecogniser(actor, runtime="actor", trusted=True)) == os.getpid()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    known_files.remember(sha256(actor))
    assert process_of(DeviceRecogniser(actor, runtime="actor")) == os.getpid()
    del foreign
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_model_that_crashes_when_it_is_loaded_is_refused(actor, tmp_path):
    path = actor.rename(tmp_path / "dies.tflite")
    with pytest.raises(CheckpointError, match=r"dies.tflite: the model crashes \(Segmentation"):
        DeviceRecogniser(path, runtime="actor")


def test_a_model_that_crashes_later_costs_one_utterance(actor, tmp_path):
    recogniser = DeviceRecogniser(actor, runtime="actor")
    before = process_of(recogniser)
    bad = write_wav(tmp_path / "bad.wav", np.full(1001, 0.1), rate_hz=16000)
    with pytest.raises(CheckpointError) as raised:
        recogniser.transcribe_file(bad)
    assert str(raised.value).startswith(f"{actor}: utterance {bad}: the model crashes (Segm")
    assert "tfkd export" in str(raised.value)
    assert process_of(recogniser) not in (before, os.getpid())


def test_a_model_that_does_not_end_is_given_up(actor, monkeypatch):
    recogniser = DeviceRecogniser(actor, runtime="actor")
    monkeypatch.setattr(isolation, "MIN_SECONDS", 0.3)
    monkeypatch.setattr(isolation, "SECONDS_PER_SECOND_OF_AUDIO", 0)
    with pytest.raises(CheckpointError, match="does not end within"):
        recogniser.transcribe_waveform(np.zeros(1002))


def test_an_answer_that_nobody_waited_for_is_not_that_of_the_next_call(actor):
    def interrupt(*_):
        raise KeyboardInterrupt

    recogniser = DeviceRecogniser(actor, runtime="actor")
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            recogniser.transcribe_waveform(np.zeros(1002))
    finally:
        signal.signal(signal.SIGALRM, before)
    process_of(recogniser, samples=1000)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (1003, "cannot run the model: no such operator"),
        (1005, "gives a wrong token: token id 99 is outside"),
        (1006, "gives float32 as token_ids"),
    ],
)
def test_what_is_no_hypothesis_is_named(actor, trusted, samples, message):
    recogniser = DeviceRecogniser(actor, runtime="actor", trusted=trusted)
    process = process_of(recogniser)
    with pytest.raises(CheckpointError, match=f"{actor}: {message}.*\\(.*export"):
        recogniser.transcribe_waveform(np.zeros(samples))
    assert process_of(recogniser) == process


def test_a_model_without_enough_memory_is_named(actor):
    recogniser = DeviceRecogniser(actor, runtime="actor")
    with pytest.raises(CheckpointError, match=r"more than 4 GiB of memory \(.* give --trust, or"):
        recogniser.transcribe_waveform(np.zeros(1004))
    recogniser = DeviceRecogniser(actor, runtime="actor", max_memory_bytes=6 * 2**30)
    with pytest.raises(CheckpointError, match="more than 6 GiB of memory"):
        recogniser.transcribe_waveform(np.zeros(1004))


def test_a_child_that_was_killed_while_it_waited_costs_no_recording(actor):
    recogniser = DeviceRecogniser(actor, runtime="actor")
    before = process_of(recogniser)
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert process_of(recogniser) != before


# A file of the working folder that takes the place of a module of Python.
IMPOSTOR = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"


def test_a_child_runs_no_file_of_the_working_folder(actor, monkeypatch, tmp_path):
    working = tmp_path / "working"
    working.mkdir()
    for name in ("resource", "json", "numpy"):
        (working / f"{name}.py").write_text(IMPOSTOR)
    monkeypatch.chdir(working)
    process_of(DeviceRecogniser(actor, runtime="actor"))
    command = child_command("tfkd.storage.files", "sha256", actor)
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert not list(working.glob("*.ran"))


@pytest.mark.parametrize("limit_gib", [1, 64])
def test_a_lower_limit_of_memory_stays(limit_gib):
    said = run_python(
        "import resource\n"
        "from tfkd.device.child_processes import limit_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        f"limit_memory({limit_gib} << 30)\n"
        "print(*(limit >> 30 for limit in resource.getrlimit(resource.RLIMIT_AS)))"
    )
    least = min(2, limit_gib)
    assert said == f"{least} {least}\n"
