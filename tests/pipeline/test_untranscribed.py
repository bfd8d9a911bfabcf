"""A run on audio of which only a part has transcripts: nobody learns from those set aside."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfkd.config import (
    AugmentationConfig,
    LabelConfig,
    ObjectiveConfig,
    RunConfig,
    SystemConfig,
    TextConfig,
    TokenizerConfig,
    WhisperConfig,
    from_dict,
    with_overrides,
)
from tfkd.corpora import Utterance
from tfkd.corpora.joining import held_out_ids
from tfkd.data.preparation import prepare
from tfkd.decoding.runs import load_run
from tfkd.distillation.label_quality import label_quality
from tfkd.distillation.labelling import label
from tfkd.errors import (
    CheckpointError,
    ConfigError,
    LanguageModelError,
    ManifestError,
    TfkdError,
)
from tfkd.metrics import score
from tfkd.pipeline import corpora as pipeline_corpora
from tfkd.pipeline import job as module
from tfkd.pipeline.corpora import _held_out, hidden_transcripts, prepare_corpora
from tfkd.pipeline.job import Job
from tfkd.pipeline.learning import Learned, as_baseline, with_objective
from tfkd.pipeline.measuring import results_of_data
from tfkd.pipeline.results import published
from tfkd.pipeline.stages import run_stages
from tfkd.pipeline.stores import JobStores
from tfkd.records import open_store
from tfkd.records.transcripts import transcribed_rows
from tfkd.reporting.results import results_report
from tfkd.reporting.sentences import label_sentences
from tfkd.text import CharacterTokenizer
from tfkd.training.batches import TrainingEpochs


@pytest.fixture
def run_config(tiny_corpus, tiny_settings, tmp_path) -> RunConfig:
    return from_dict(
        RunConfig,
        {
            "data_dir": str(tiny_corpus),
            "work_dir": str(tmp_path / "work"),
            "prepare": {"sample_rate_hz": 8000, "shard_size": 8, "max_seconds": 5},
            "teacher": tiny_settings,
            "labels": {"beam_width": 3, "num_hypotheses": 2},
            "student": tiny_settings,
            "export": {"max_seconds": 5},
        },
    )


def with_corpora(config: RunConfig, **corpora) -> RunConfig:
    return dataclasses.replace(config, corpora=dataclasses.replace(config.corpora, **corpora))


def texts_of(store: Path) -> dict[str, str | None]:
    return {row["utterance_id"]: row.get("text") for row in open_store(store).index}


def true_texts(corpus: Path, *splits: str) -> dict[str, str]:
    lines = [line for name in splits for line in (corpus / f"{name}.jsonl").read_text().split("\n")]
    rows = [json.loads(line) for line in lines if line]
    return {row["utterance_id"]: row["text"] for row in rows}


def write_rows(folder: Path, rows: list[dict], audio: Path) -> None:
    """Writes a manifest whose recordings lie in another folder."""
    folder.mkdir(parents=True)
    lines = (json.dumps({**row, "audio": str(audio / row["audio"])}) + "\n" for row in rows)
    (folder / "pool.jsonl").write_text("".join(lines))


def test_the_store_holds_all_audio_and_only_the_transcripts_of_the_share(run_config, tiny_corpus):
    config = with_corpora(run_config, transcribed_share=0.25, untranscribed=("test.jsonl",))
    work = Path(config.work_dir)
    prepare_corpora(config, work)
    truth = true_texts(tiny_corpus, "train", "test")
    found = texts_of(work / "data" / "train")
    known = {name: text for name, text in found.items() if text}
    assert found.keys() == truth.keys() - {"train-lost"}
    assert len(known) == 6
    assert known.items() <= truth.items()
    assert not any(name.startswith("test") for name in known)
    hidden = hidden_transcripts(work)
    assert hidden.keys() | known.keys() == truth.keys()
    assert not hidden.keys() & known.keys()
    assert hidden.items() <= truth.items()


def test_no_byte_of_a_hidden_transcript_reaches_what_students_read(run_config, tiny_corpus):
    """Every text is replaced by a word that could be found anywhere in the store."""
    corpus = Path(run_config.work_dir) / "corpus"
    rows = [json.loads(line) for line in (tiny_corpus / "test.jsonl").read_text().splitlines()]
    write_rows(corpus, [{**row, "text": "sibboleth"} for row in rows], tiny_corpus)
    config = with_corpora(run_config, untranscribed=(str(corpus / "pool.jsonl"),))
    work = Path(config.work_dir)
    prepare_corpora(config, work)
    files = [path for path in (work / "data" / "train").rglob("*") if path.is_file()]
    assert not [path for path in files if b"sibboleth" in path.read_bytes()]
    assert set(hidden_transcripts(work).values()) == {"sibboleth"}


def test_hidden_transcripts_are_those_that_a_store_would_hold(run_config, tiny_corpus):
    texts = ["[noise] turn on <COMMA> now", "it&#39;s on", "n/a", "[laughter]", "", "50% off"]
    rows = [json.loads(line) for line in (tiny_corpus / "test.jsonl").read_text().splitlines()]
    rows = [{**row, "text": text} for row, text in zip(rows, texts, strict=True)]
    manifest = Path(run_config.work_dir) / "corpus" / "pool.jsonl"
    write_rows(manifest.parent, rows, tiny_corpus)
    preparation = dataclasses.replace(run_config.prepare, text=TextConfig(extra_characters="%"))
    config = dataclasses.replace(run_config, prepare=preparation)
    work = Path(config.work_dir)
    prepare_corpora(with_corpora(config, untranscribed=(str(manifest),)), work)
    hidden = hidden_transcripts(work)
    prepare(manifest, work / "store", config.prepare)
    known = {name: text for name, text in texts_of(work / "store").items() if text is not None}
    assert hidden == known
    assert list(hidden.values()) == ["turn on now", "it's on", "", "", "50% off"]


def test_labels_of_silence_are_measured(prepared, teacher, label_config, tmp_path):
    """Where nothing is said, each word of the label is wrong."""
    labels = label(teacher, prepared["test"], tmp_path / "labels", label_config)
    name = prepared["test"].index[0]["utterance_id"]
    quality = label_quality(open_store(tmp_path / "labels"), {name: ""})
    assert (labels.records, quality.utterances) == (6, 1)
    assert quality.wer >= 1


def test_the_baseline_on_all_transcripts_has_a_store_of_its_own(run_config, tiny_corpus):
    config = with_corpora(run_config, transcribed_share=0.25)
    config = dataclasses.replace(config, baselines=("transcribed", "all"))
    prepare_corpora(config, Path(config.work_dir))
    found = texts_of(Path(config.work_dir) / "data" / "train-all")
    assert found.items() <= true_texts(tiny_corpus, "train").items()
    assert len(found) == 24


def test_audio_that_is_measured_and_learned_from_is_named(run_config, tiny_corpus, caplog):
    prepare_corpora(run_config, Path(run_config.work_dir) / "apart")
    assert "learned from, too" not in caplog.text
    config = with_corpora(run_config, untranscribed=(run_config.corpora.test,))
    prepare_corpora(config, Path(config.work_dir))
    (message,) = (each for each in caplog.messages if "learned from, too" in each)
    assert message.startswith(f"{tiny_corpus / 'test.jsonl'}: 6 of its utterances, for example")


def test_what_is_held_out_is_not_learned_from_and_depends_on_the_ids_alone(run_config, tiny_corpus):
    config = with_corpora(run_config, valid=None, test=None, held_out_share=0.2)
    prepare = dataclasses.replace(config.prepare, max_rejected_share=0.1)
    config = dataclasses.replace(config, baselines=("transcribed", "all"), prepare=prepare)
    data = Path(config.work_dir) / "data"
    prepare_corpora(config, data.parent)
    parts = [texts_of(data / name) for name in ("valid", "test", "train")]
    assert [len(part) for part in parts] == [5, 5, 14]
    everything = {name: text for part in parts for name, text in part.items()}
    truth = true_texts(tiny_corpus, "train")
    assert everything == {name: truth[name] for name in truth if name != "train-lost"}
    assert texts_of(data / "train-all") == parts[2]
    backwards = data.parent / "backwards"
    rows = (tiny_corpus / "train.jsonl").read_text().splitlines()
    write_rows(backwards, [json.loads(row) for row in reversed(rows)], tiny_corpus)
    other = with_corpora(config, train=(str(backwards / "pool.jsonl"),))
    prepare_corpora(other, backwards)
    assert texts_of(backwards / "data" / "valid") == parts[0]


def test_pieces_are_held_out_of_a_few_long_recordings(run_config, speak, tmp_path, rate_hz):
    speech, _ = soundfile.read(speak(tmp_path / "speech.wav", "ba di ko mu"))
    (tmp_path / "talks").mkdir()
    for name in ("one", "two"):
        soundfile.write(
            tmp_path / "talks" / f"{name}.wav", np.resize(speech, 12 * rate_hz), rate_hz
        )
    preparation = dataclasses.replace(run_config.prepare, too_long="split", piece_seconds=1.0)
    config = dataclasses.replace(
        run_config, data_dir=str(tmp_path / "talks"), prepare=preparation, baselines=()
    )
    held_out = {"valid": None, "test": None, "held_out_share": 0.1}
    work = Path(config.work_dir)
    prepare_corpora(with_corpora(config, train=(), untranscribed=(".",), **held_out), work)
    stores = [open_store(work / "data" / name) for name in ("train", "valid", "test")]
    ids = [{row["utterance_id"] for row in store.index} for store in stores]
    assert len(set.union(*ids)) == sum(map(len, ids)) >= 24
    assert len(ids[1]) == len(ids[2]) == round(0.1 * sum(map(len, ids)))
    seconds = [store.summary.duration_seconds for store in stores]
    assert sum(seconds) == pytest.approx(24)
    for store, own in zip(stores, ids, strict=True):
        assert {piece.utterance_id for piece in store.pieces} == own
        assert store.summary.pieces == len(own)


def lectures(number: int) -> list[Utterance]:
    """Pieces of long recordings, as `cut_recordings` makes them."""
    return [
        Utterance(f"lecture-{n}-{piece:04d}", Path(f"lecture-{n}.wav"))
        for n in range(number)
        for piece in range(50)
    ]


def test_pieces_are_held_out_of_twenty_recordings_too(run_config):
    """One recording would be just the share, and one voice."""
    config = with_corpora(run_config, held_out_share=0.05)
    parts = _held_out((lectures(20), []), config, [Path("valid"), Path("test")], is_cut=True)
    for part in parts:
        assert len({name.rpartition("-")[0] for name in part}) > 10


def test_stores_of_earlier_versions_keep_what_they_hold(run_config):
    """They held out single utterances, whoever spoke."""
    config = with_corpora(run_config, valid=None, test=None, held_out_share=0.2)
    rows = Path(config.data_dir) / config.corpora.train[0]
    named = [json.loads(line) for line in rows.read_text().splitlines()]
    with_speakers = Path(config.work_dir) / "corpus"
    speaking = [{**row, "speaker": f"s{n % 5}"} for n, row in enumerate(named)]
    write_rows(with_speakers, speaking, Path(config.data_dir))
    config = with_corpora(config, train=(str(with_speakers / "pool.jsonl"),))
    prepare = dataclasses.replace(config.prepare, max_rejected_share=0.1)
    config = dataclasses.replace(config, prepare=prepare)

    def speakers(work: Path) -> set[str]:
        prepare_corpora(config, work)
        return {each.speaker for each in open_store(work / "data" / "valid").records()}

    assert len(speakers(Path(config.work_dir) / "new")) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_corpora, "_held_out", as_earlier_versions)
        before = speakers(Path(config.work_dir) / "old")
    assert len(before) > 1
    assert speakers(Path(config.work_dir) / "old") == before


def as_earlier_versions(usable, config, stores, *, is_cut):
    return held_out_ids(usable, config.corpora.held_out_share, len(stores), is_grouped=False)


@pytest.fixture
def talks(run_config, speak, tmp_path, rate_hz) -> RunConfig:
    """A few long recordings with transcripts, which are cut, and of which pieces are held out."""
    speech, _ = soundfile.read(speak(tmp_path / "speech.wav", "ba di ko mu"))
    rows = []
    for number in range(4):
        path = tmp_path / f"talk-{number}.wav"
        soundfile.write(path, np.resize(speech, 6 * rate_hz), rate_hz)
        rows.append({"utterance_id": path.stem, "audio": path.name, "text": "ba di ko mu"})
    write_rows(tmp_path / "talks", rows, tmp_path)
    preparation = dataclasses.replace(
        run_config.prepare, too_long="split", max_seconds=10.0, piece_seconds=1.0
    )
    config = dataclasses.replace(
        run_config, data_dir=str(tmp_path / "talks"), prepare=preparation, baselines=("all",)
    )
    return with_corpora(config, train=(), untranscribed=("pool.jsonl",), valid=None, test=None)


def test_no_recording_of_which_a_piece_is_held_out_is_in_the_baseline_on_all(talks):
    config = with_corpora(talks, held_out_share=0.04)
    work = Path(config.work_dir)
    prepare_corpora(config, work)
    parts = [open_store(work / "data" / name).pieces for name in ("valid", "test")]
    assert [len(pieces) for pieces in parts] == [1, 1]
    held_out = {piece.source_id for pieces in parts for piece in pieces}
    learned = texts_of(work / "data" / "train-all")
    assert learned.keys() == {f"talk-{number}" for number in range(4)} - held_out
    # What is said in a piece is not known, only what is said in the whole.
    assert hidden_transcripts(work) == {}


def test_a_baseline_that_is_left_without_any_recording_is_refused(talks):
    config = with_corpora(talks, held_out_share=0.4)
    with pytest.raises(ManifestError, match="part of every recording is held out.*leave all out"):
        prepare_corpora(config, Path(config.work_dir))
    without = dataclasses.replace(config, baselines=())
    prepare_corpora(without, Path(config.work_dir))


@pytest.mark.parametrize(
    ("transcribed_share", "are_hidden", "said"),
    [
        (0.25, True, "utterances whose transcript was set aside (labels) have"),
        (
            1.0,
            False,
            "utterances that have a transcript, which the teacher may have learned (labels)",
        ),
    ],
)
def test_labels_are_compared_with_hidden_transcripts_or_with_those_that_there_are(
    run_config, labels, transcribed_share, are_hidden, said
):
    config = with_corpora(run_config, transcribed_share=transcribed_share)
    work = Path(config.work_dir)
    prepare_corpora(config, work)
    shutil.copytree(labels.directory, work / "labels")
    measured = results_of_data(JobStores(config), ["labels"])["labels"]
    references = hidden_transcripts(work) if are_hidden else texts_of(work / "data" / "train")
    best = {each.utterance_id: each.hypotheses[0].text for each in labels.records()}
    pairs = [(text, best[name]) for name, text in references.items() if name in best]
    assert measured["labels"]["utterances"] == len(pairs)
    assert measured["labels"]["are_transcripts_hidden"] == are_hidden
    assert measured["labels"]["wer"] == pytest.approx(score(*zip(*pairs, strict=True)).wer)
    (sentence,) = label_sentences(measured)
    assert said in sentence


def test_transcripts_are_held_out_where_a_part_of_the_audio_has_some(run_config):
    held_out = {"valid": None, "test": None, "held_out_share": 0.2, "transcribed_share": 0.4}
    config = with_corpora(run_config, **held_out)
    prepare_corpora(config, Path(config.work_dir))
    parts = [texts_of(Path(config.work_dir) / "data" / name) for name in ("valid", "test", "train")]
    assert [(len(part), sum(map(bool, part.values()))) for part in parts] == [
        *((2, 2), (2, 2), (20, 5)),  # what is lost was chosen, too
    ]


@pytest.mark.parametrize("placeholder", ["<unk>", "-", "..."])
def test_placeholders_are_no_transcripts_where_some_are_held_out(run_config, placeholder):
    source = Path(run_config.data_dir) / "train.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for row in rows[10:]:
        row["text"] = placeholder
    source.with_name("some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = {"train": ("some.jsonl",), "valid": None, "held_out_share": 0.2}
    config = with_corpora(run_config, **parts, transcribed_share=0.5)
    prepare_corpora(config, Path(config.work_dir))
    held_out = texts_of(Path(config.work_dir) / "data" / "valid")
    assert len(held_out) >= 1
    assert all(held_out.values())
    learned = texts_of(Path(config.work_dir) / "data" / "train")
    assert len(held_out) + sum(map(bool, learned.values())) == 5


def test_a_job_may_work_inside_of_the_folder_of_its_recordings(run_config, tmp_path, tiny_corpus):
    for path in tiny_corpus.glob("*.wav"):
        shutil.copy(path, tmp_path)
    config = with_corpora(
        run_config, train=(), untranscribed=(".",), valid=None, test=None, held_out_share=0.2
    )
    config = dataclasses.replace(config, data_dir=str(tmp_path), work_dir=str(tmp_path / "work"))
    trained_on = []
    for _ in range(2):
        prepare_corpora(config, tmp_path / "work")
        trained_on.append(sorted(texts_of(tmp_path / "work" / "data" / "train")))
    assert trained_on[0] == trained_on[1]


def test_few_utterances_to_measure_by_are_warned_of(run_config, caplog):
    config = with_corpora(run_config, test=None, held_out_share=0.1)
    prepare_corpora(config, Path(config.work_dir))
    assert "data/test: 2 utterances are held out, on which figures say little" in caplog.text


def test_a_share_that_holds_out_nothing_is_refused(run_config):
    config = with_corpora(run_config, test=None, held_out_share=0.01)
    with pytest.raises(ManifestError, match="25 utterances is none to hold out .*held_out_share"):
        prepare_corpora(config, Path(config.work_dir))


def test_an_id_that_two_corpora_use_is_refused(run_config):
    config = with_corpora(run_config, untranscribed=("train.jsonl", "./train.jsonl"))
    with pytest.raises(ManifestError, match="uses the same id as"):
        prepare_corpora(config, Path(config.work_dir))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.9])
def test_the_baseline_takes_as_many_steps_as_the_student_on_labels(run_config, share):
    config = with_corpora(run_config, transcribed_share=share)
    prepare_corpora(config, Path(config.work_dir))
    store = open_store(Path(config.work_dir) / "data" / "train")
    truth, tokenizer = Learned((store,)), CharacterTokenizer("a")
    without = {row["utterance_id"] for row in store.index} - {
        row["utterance_id"] for row in transcribed_rows(store)
    }
    for batch_size, own in itertools.product((1, 4, 16), (1, 3)):
        training = dataclasses.replace(
            config.student.training,
            epochs=40,
            patience=20,
            passes_per_epoch=own,
            batch_size=batch_size,
            augmentation=AugmentationConfig(clean_epochs=10),
        )
        student = dataclasses.replace(config.student, training=training)
        found = as_baseline(student, truth, truth).training
        labelled = TrainingEpochs(store, tokenizer, training, [set()])
        transcribed = TrainingEpochs(store, tokenizer, found, [without])
        difference = transcribed.total_batches - labelled.total_batches
        assert abs(difference) <= transcribed.num_batches / 2, (batch_size, own)
        assert found.patience / found.epochs == pytest.approx(0.5, abs=0.02)
        assert found.augmentation.clean_epochs / found.epochs == pytest.approx(0.25, abs=0.02)


def test_transcripts_beside_labels_count_as_steps_of_the_student(run_config):
    config = with_corpora(run_config, transcribed_share=0.25)
    prepare_corpora(config, Path(config.work_dir))
    truth = Learned((open_store(Path(config.work_dir) / "data" / "train"),))
    training = dataclasses.replace(config.student.training, epochs=10, batch_size=1)
    student = dataclasses.replace(config.student, training=training)
    # 6 of 24 have a transcript; labels alone are 24 examples an epoch, with the transcripts 30.
    for learned, passes in ((truth, 4), (Learned(truth.stores * 2), 5)):
        assert as_baseline(student, truth, learned).training == dataclasses.replace(
            training, passes_per_epoch=passes
        )


def stores_and_shares(config: RunConfig) -> tuple[list[str], tuple[float, ...] | None]:
    """What a student learns from, where the audio to label is also what labels are made of."""
    work = Path(config.work_dir)
    (work / "labels").symlink_to(work / "data" / "test")
    stores, shares = Job(config).stores.learned("labels", config.transcript_share)
    return [store.directory.name for store in stores], shares


@pytest.mark.parametrize(
    ("transcribed_share", "transcript_share", "expected"),
    [
        (0.25, None, (["train", "labels"], None)),
        (0.25, 0.3, (["train", "labels"], (0.3, 0.7))),
        (0.25, 0.0, (["labels"], None)),
        (1.0, None, (["labels"], None)),  # as in the paper
        (1.0, 0.5, (["train", "labels"], (0.5, 0.5))),
    ],
)
def test_transcripts_are_learned_beside_labels_where_they_are_few(
    run_config, transcribed_share, transcript_share, expected
):
    config = with_corpora(run_config, transcribed_share=transcribed_share)
    config = dataclasses.replace(config, transcript_share=transcript_share)
    prepare_corpora(config, Path(config.work_dir))
    assert stores_and_shares(config) == expected


def stage_names(config: RunConfig) -> list[str]:
    return [stage.name for stage in Job(config).stages()]


def test_generations_label_with_the_student_before_or_with_a_teacher_of_their_own(run_config):
    student = dataclasses.replace(run_config, generations=2)
    assert stage_names(student)[2:-2] == [
        *("label", "student-truth", "student-seq_kd", "label-2", "student-seq_kd-2"),
    ]
    larger = dataclasses.replace(student, next_teacher=run_config.teacher)
    assert "teacher-2" in stage_names(larger)
    job, other = Job(student), Job(larger)
    assert Path(job.teacher_spec(2)).name == "student-seq_kd"
    assert Path(other.teacher_spec(2)).name == "teacher-2"


def test_a_teacher_that_there_is_needs_no_transcripts_but_to_measure_by(run_config, teacher):
    given = dataclasses.replace(run_config, teacher=str(teacher.directory))
    config = with_corpora(given, train=(), untranscribed=("train.jsonl",))
    names = stage_names(config)
    assert names == ["prepare", "label", "student-seq_kd", "export", "evaluate"]
    assert Job(config).load_teacher(1).identity == teacher.sha256


def test_what_concerns_a_whisper_alone_is_not_asked_of_later_teachers(
    run_config, prepared, teacher, monkeypatch
):
    asked = []
    monkeypatch.setattr(Job, "load_teacher", lambda job, generation: teacher)
    monkeypatch.setattr(JobStores, "open", lambda stores, name: prepared["valid"])
    monkeypatch.setattr(module, "label", lambda *given: asked.append(given[3]))
    settings = LabelConfig(beam_width=5, whisper=WhisperConfig(language="en"))
    job = Job(dataclasses.replace(run_config, labels=settings, generations=2))
    for stage in job.stages():
        if stage.name.startswith("label"):
            stage.action()
    assert asked == [settings, LabelConfig(beam_width=5)]


def without_texts(corpus: Path, folder: Path) -> Path:
    """Copies the recordings of a corpus, and nothing else."""
    folder.mkdir()
    for recording in corpus.glob("*.*a*"):
        if recording.suffix in (".wav", ".flac"):
            shutil.copy(recording, folder)
    return folder


def test_where_nobody_wrote_down_anything_what_the_teacher_says_is_the_reference(
    run_config, teacher, tiny_corpus, tmp_path, monkeypatch, caplog
):
    """A folder of recordings and a teacher: no file holds a transcript."""
    measured = {}

    def train(system, stores, valid, folder, **_):
        measured[folder.name] = texts_of(valid.directory)

    monkeypatch.setattr(module, "train", train)
    given = dataclasses.replace(run_config, teacher=str(teacher.directory))
    held_out = {"valid": None, "test": None, "held_out_share": 0.2}
    config = with_corpora(given, train=(), untranscribed=(".",), **held_out)
    folder = without_texts(tiny_corpus, tmp_path / "recordings")
    job = Job(dataclasses.replace(config, data_dir=str(folder)))
    run_stages(job.stages()[:3], job.work, lambda line: None)
    assert not job.stores.is_transcribed("data/test")
    assert caplog.text.count("what the teacher says is its reference") == 2
    for name, labels in (("valid", "labels-valid"), ("test", "labels-test")):
        own = texts_of(job.work / "data" / name)
        assert len(own) == 7
        assert set(own.values()) == {None}
        said = {
            each.utterance_id: each.hypotheses[0].text
            for each in open_store(job.work / labels).records()
        }
        assert texts_of(job.stores.evaluated(f"data/{name}").directory) == said
        assert said.keys() == own.keys()
    assert measured["student-seq_kd"] == texts_of(job.work / "data" / "valid-by-teacher")


def test_without_transcripts_the_want_of_a_baseline_is_told_before_labels_are_made(
    run_config, teacher, tiny_corpus, tmp_path
):
    folder = without_texts(tiny_corpus, tmp_path / "recordings")
    given = dataclasses.replace(run_config, teacher=str(teacher.directory))
    config = with_corpora(given, train=(str(folder),))
    with pytest.raises(TfkdError, match=r"set corpora.train=\[\] and name the corpora under"):
        Job(config).run(lambda line: None)
    assert not (Path(config.work_dir) / "labels").exists()


def test_transcripts_that_the_baseline_all_lacks_are_missed_before_labels_are_made(
    run_config, teacher, tiny_corpus, tmp_path
):
    folder = without_texts(tiny_corpus, tmp_path / "recordings")
    given = dataclasses.replace(
        run_config, teacher=str(teacher.directory), baselines=("transcribed", "all")
    )
    config = with_corpora(given, train=(), untranscribed=(str(folder),))
    with pytest.raises(TfkdError, match="leave all out of baselines"):
        Job(config).run(lambda line: None)
    assert not (Path(config.work_dir) / "labels").exists()


@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_teacher_that_is_to_be_trained_needs_transcripts_to_be_measured_by(
    run_config, tiny_corpus, tmp_path, part
):
    folder = without_texts(tiny_corpus, tmp_path / "recordings")
    config = with_corpora(run_config, **{part: str(folder)})
    with pytest.raises(TfkdError, match=f"{part}: no utterance has a transcript"):
        Job(config).run(lambda line: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "prepare.sample_rate_hz: is 16000, the teacher .* hears audio at 8000 Hz"),
        ({"whisper": WhisperConfig(language="en")}, "labels.whisper: applies to a teacher"),
    ],
)
def test_a_teacher_that_cannot_label_so_is_refused_before_any_work(
    run_config, teacher, changes, message
):
    """An existing teacher of another sample rate would hear everything twice as slow."""
    config = dataclasses.replace(
        at_rate(run_config, 8000 if changes else 16_000),
        teacher=str(teacher.directory),
        labels=dataclasses.replace(run_config.labels, **changes),
    )
    with pytest.raises(ConfigError, match=message):
        Job(config).run(lambda line: None)
    assert not Path(config.work_dir).exists()


def test_a_teacher_that_is_not_there_is_missed_before_any_work(run_config, tmp_path):
    config = dataclasses.replace(run_config, teacher=str(tmp_path / "teachr"))
    with pytest.raises(CheckpointError, match="teachr"):
        Job(config).run(lambda line: None)
    assert not Path(config.work_dir).exists()


def at_rate(config: RunConfig, rate_hz: int) -> RunConfig:
    """The same config for another sample rate."""
    model = config.student.model
    frontend = dataclasses.replace(model.frontend, sample_rate_hz=rate_hz)
    model = dataclasses.replace(model, frontend=frontend)
    return dataclasses.replace(
        config,
        prepare=dataclasses.replace(config.prepare, sample_rate_hz=rate_hz),
        student=dataclasses.replace(config.student, model=model),
    )


def test_all_but_the_teacher_take_its_units_if_their_settings_are_equal(
    run_config, teacher, prepared, monkeypatch
):
    taken = []
    monkeypatch.setattr(module, "train", lambda *_, tokenizer, **__: taken.append(tokenizer))
    monkeypatch.setattr(JobStores, "open", lambda stores, name: prepared["valid"])
    job = Job(dataclasses.replace(run_config, teacher=str(teacher.directory)))
    same, others = (
        dataclasses.replace(run_config.student, tokenizer=tokenizer)
        for tokenizer in (teacher.system.tokenizer, TokenizerConfig(kind="sentencepiece"))
    )
    for system, folder in ((same, job.work / "student"), (others, job.work / "student"),
                           (same, teacher.directory)):  # fmt: skip
        job.train(system, Learned((prepared["train"],)), folder)
    assert [units and units.pieces for units in taken] == [teacher.tokenizer.pieces, None, None]


@pytest.mark.parametrize(
    ("objective", "is_warned"),
    [
        ({"kind": "seq_inter"}, True),
        ({"kind": "word_kd", "choice": "nearest_to_reference"}, True),
        ({"kind": "mixture", "parts": [{"kind": "truth"}, {"kind": "seq_inter"}]}, True),
        ({"kind": "mixture", "parts": [{"kind": "seq_kd"}, {"kind": "seq_inter"}]}, False),
        ({"kind": "seq_kd"}, False),
        ({"kind": "truth"}, False),
    ],
)
def test_a_student_that_leaves_out_labels_for_want_of_a_transcript_is_warned_of(
    run_config, teacher, monkeypatch, caplog, objective, is_warned
):
    """Its baseline takes as many steps as a student that learns every label."""
    config = with_corpora(run_config, transcribed_share=0.25)
    prepare_corpora(config, Path(config.work_dir))
    monkeypatch.setattr(module, "train", lambda *_, **__: None)
    job = Job(dataclasses.replace(config, teacher=str(teacher.directory)))
    system = with_objective(config.student, from_dict(ObjectiveConfig, objective))
    job.train(system, Learned((job.stores.open("data/train"),)), job.work / "student")
    said = "student: 18 of 24 labels have no transcript to choose a hypothesis by and are left out"
    assert (said in caplog.text) == is_warned
    assert ("left out" in caplog.text) == is_warned


@pytest.mark.parametrize(
    ("teacher", "name"),
    [("whisper:/home/me/whisper-base", "whisper:whisper-base"), ("/home/me/teacher", "teacher")],
)
def test_results_name_no_folder_of_the_machine(run_config, teacher, name):
    own = published(dataclasses.replace(run_config, teacher=teacher))
    assert (own["teacher"], own["work_dir"], own["data_dir"]) == (name, "", "")


@pytest.mark.slow
def test_two_generations_learn_from_a_teacher_that_there_is_without_any_transcript(
    run_config, teacher, tiny_settings, eagerly
):
    """The whole job: the student of the first generation labels for the second."""
    student = {
        **tiny_settings,
        "model": {**tiny_settings["model"], "ctc": False},
        "training": {**tiny_settings["training"], "epochs": 3, "ctc_weight": 0},
    }
    given = dataclasses.replace(
        run_config,
        teacher=str(teacher.directory),
        student=from_dict(SystemConfig, student),
        generations=2,
        export=dataclasses.replace(run_config.export, formats=("savedmodel",)),
    )
    config = with_corpora(given, train=(), untranscribed=("train.jsonl",))
    results = Job(config).run(lambda line: None)
    students = ["student-seq_kd", "student-seq_kd-2"]
    assert list(results["systems"]) == ["teacher", *students, "export savedmodel"]
    assert results["student"] in students
    assert list(results["differences"]) == ["teacher"]
    assert list(results["labels"]) == ["labels", "labels-2"]
    assert results["training_data"]["transcribed_utterances"] == 0
    assert {each["utterances"] for each in results["labels"].values()} == {24}
    work = Path(config.work_dir)
    labelled_by = open_store(work / "labels-2").plan.sources["teacher"]
    assert labelled_by == load_run(work / "student-seq_kd").sha256
    page = results_report(results)
    assert "0 of 24 utterances to learn from have a transcript" in page


def test_a_page_says_that_nobody_has_transcribed_the_test_set():
    kept = Path(__file__).parents[2] / "docs" / "recipes" / "barista-whisper.results.json"
    results = json.loads(kept.read_text())
    assert "Nobody has transcribed" not in results_report(results)
    assert "an error is what differs from the teacher's best hypothesis (labels-test)" in (
        results_report({**results, "is_test_transcribed": False})
    )


def test_a_run_to_begin_from_that_is_not_there_is_missed_before_any_work(run_config, tmp_path):
    def beginning(run: Path) -> RunConfig:
        student = with_overrides(run_config.student, [f"training.initial.run={run}"])
        return dataclasses.replace(run_config, student=student)

    with pytest.raises(CheckpointError, match="elsewhere"):
        Job(beginning(tmp_path / "elsewhere")).check()
    Job(beginning(tmp_path / "work" / "teacher")).check()  # which the job makes


@pytest.mark.parametrize("place", ["labels.", "student.decoding.", "teacher.decoding."])
def test_a_language_model_that_is_not_there_is_missed_before_any_work(run_config, place):
    asked = [f"{place}fusion.lm=nowhere/lm", f"{place}fusion.lm_weight=0.3"]
    with pytest.raises(LanguageModelError, match="nowhere"):
        Job(with_overrides(run_config, asked)).check()
    Job(with_overrides(run_config, asked[:1])).check()  # which nobody uses
