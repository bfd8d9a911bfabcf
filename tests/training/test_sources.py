"""One training over several stores: what is learned from each, and how much it counts."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest

from tfkd import cli
from tfkd.config import ObjectiveConfig, TrainingConfig, to_yaml
from tfkd.data.augmentation import draw_speed
from tfkd.data.preparation import prepare
from tfkd.distillation.filters import Fault
from tfkd.errors import CheckpointError, ConfigError, TextError, TrainingError
from tfkd.objectives import SequenceKD, Survey, Truth
from tfkd.objectives.objective import Dropped
from tfkd.records import open_store
from tfkd.text import CharacterTokenizer, load_tokenizer
from tfkd.training import loop
from tfkd.training.batches import TrainingEpochs
from tfkd.training.checkpoints import Progress
from tfkd.training.dropped import lost_of
from tfkd.training.loop import train
from tfkd.training.sources import identity_of, sources_of, tokenizer_of

TOKENIZER = CharacterTokenizer(" abdeikmosu")
OBJECTIVE = ObjectiveConfig(kind="seq_kd", num_hypotheses=2, weights="uniform")
TRAINING = TrainingConfig(
    batch_size=4, speed_factors=(0.8, 1.0, 1.25), objective=OBJECTIVE, ctc_weight=0.0
)


@pytest.fixture
def stores(prepared, labels):
    """Transcribed audio, and labels of other audio."""
    return [prepared["test"], labels]


@pytest.fixture
def epochs(stores) -> TrainingEpochs:
    return TrainingEpochs(sources_of(stores, TRAINING), TOKENIZER, TRAINING)


def rows_of(batches):
    for batch in batches.as_numpy_iterator():
        for row, name in enumerate(batch["utterance_id"]):
            yield name.decode(), {key: values[row] for key, values in batch.items()}


def test_transcripts_are_learned_beside_labels(stores):
    transcribed, labelled = sources_of(stores, TRAINING)
    assert transcribed.objective == Truth(ctc_weight=0.0)
    assert labelled.objective == SequenceKD(num_hypotheses=2, weights="uniform", ctc_weight=0.0)


def test_every_utterance_of_every_store_comes_once_an_epoch(epochs, stores):
    expected = sorted(row["utterance_id"] for store in stores for row in store.index)
    for epoch in range(2):
        batches = list(epochs.batches(epoch).as_numpy_iterator())
        names = [name.decode() for batch in batches for name in batch["utterance_id"]]
        assert sorted(names) == expected
        assert max(len(batch["num_samples"]) for batch in batches) <= TRAINING.batch_size
    # Batches are planned by length across the stores.
    kinds = [{name[:4] for name in map(bytes.decode, b["utterance_id"])} for b in batches]
    assert any(len(kind) == 2 for kind in kinds)


def test_rows_hold_what_their_store_is_learned_by(epochs, stores):
    texts = {row["utterance_id"]: row["text"] for row in stores[0].index}
    for name, row in rows_of(epochs.batches(0)):
        assert row["token_ids"].shape[0] == 2
        assert row["weights"].sum() == 1.0
        if name in texts:
            (ids,) = (each[each > 0].tolist() for each in row["token_ids"] if each.any())
            assert ids == [*TOKENIZER.encode(texts[name]), TOKENIZER.eos_id]
            assert row["weights"].tolist() == [1.0, 0.0]


def test_an_epoch_resumes_and_names_its_batches(epochs, stores):
    whole = [b["utterance_id"].tolist() for b in epochs.batches(1).as_numpy_iterator()]
    rest = [b["utterance_id"].tolist() for b in epochs.batches(1, 3).as_numpy_iterator()]
    assert rest == whole[3:]
    named = [epochs.utterance_ids(1, n) for n in range(epochs.num_batches)]
    assert named == [[name.decode() for name in names] for names in whole]


def test_shares_count_whatever_the_sizes(stores):
    sources = sources_of(stores, TRAINING, [3, 1])
    epochs = TrainingEpochs(sources, TOKENIZER, TRAINING)
    factors: Counter[str] = Counter()
    for name, row in rows_of(epochs.batches(0)):
        factors[name[:5]] += float(row["loss_factors"])
        assert row["weights"].sum() == pytest.approx(1)
    total = sum(store.summary.records for store in stores)
    assert factors["test-"] == pytest.approx(0.75 * total)
    assert factors["train"] == pytest.approx(0.25 * total)
    assert (
        "loss_factors"
        not in TrainingEpochs(sources_of(stores, TRAINING), TOKENIZER, TRAINING).fields
    )


def test_an_utterance_of_two_stores_comes_with_the_target_of_each(prepared, labels):
    """The transcribed part is labelled, too: the natural case."""
    stores = [prepared["train"], labels]
    epochs = TrainingEpochs(sources_of(stores, TRAINING), TOKENIZER, TRAINING)
    names = [name for name, _ in rows_of(epochs.batches(0))]
    assert set(Counter(names).values()) == {2}
    # Each of the two is played at a speed of its own.
    ids = [row["utterance_id"] for row in labels.index]
    drawn = [epochs._speeds_of(0)[place].factor for place in range(2 * len(ids))]
    first = draw_speed(ids, TRAINING.speed_factors, 0)
    assert drawn[: len(ids)] == [TRAINING.speed_factors[number] for number in first]
    assert drawn[: len(ids)] != drawn[len(ids) :]
    # An error about a batch tells which of the two it means.
    named = {name for batch in range(epochs.num_batches) for name in epochs.utterance_ids(0, batch)}
    assert len(named) == 2 * len(ids)
    assert f"{ids[0]} of {labels.directory}" in named


def test_what_one_store_drops_another_may_keep(prepared, labels):
    """Ids may repeat, so what is left out is known by store."""
    stores = [prepared["train"], labels]
    ids = [row["utterance_id"] for row in labels.index]
    epochs = TrainingEpochs(sources_of(stores, TRAINING), TOKENIZER, TRAINING, [{ids[0]}, {ids[1]}])
    counts = Counter(name for name, _ in rows_of(epochs.batches(0)))
    assert counts == {name: 1 if name in ids[:2] else 2 for name in ids}


@pytest.mark.parametrize(
    ("shares", "message"),
    [([1.0], "there are 1 shares for 2 stores"), ([1.0, 0.0], "the shares are 1, 0 ")],
)
def test_shares_that_do_not_fit_are_refused(stores, shares, message):
    with pytest.raises(ConfigError, match=message):
        sources_of(stores, TRAINING, shares)


def test_stores_that_cannot_be_learned_from_are_refused(stores, prepared):
    with pytest.raises(TrainingError, match="no data"):
        sources_of([], TRAINING)
    with pytest.raises(TrainingError, match=f"{stores[1].directory}: is given twice"):
        sources_of([*stores, stores[1]], TRAINING)
    with pytest.raises(
        TrainingError, match=f"{prepared['test'].directory}: holds no pseudo labels"
    ):
        sources_of(prepared["test"], TRAINING)


def test_the_identity_of_one_store_is_its_own(stores):
    (alone,) = sources_of(stores[1], TRAINING)
    assert identity_of([alone]) == stores[1].sha256
    identities = {
        identity_of(sources_of(each, TRAINING, shares))
        for each, shares in [
            (stores, None),
            (stores[::-1], None),
            (stores, [1, 1]),
            (stores, [1, 2]),
        ]
    }
    assert len(identities) == 4


# --- whole trainings


@pytest.fixture
def short_system(tiny_system):
    model = dataclasses.replace(tiny_system.model, ctc=False)
    training = dataclasses.replace(
        tiny_system.training, epochs=2, ctc_weight=0.0, objective=OBJECTIVE
    )
    return dataclasses.replace(tiny_system, model=model, training=training)


@pytest.mark.slow
def test_a_training_over_two_stores_goes_on_where_it_was_killed(
    short_system, prepared, labels, tmp_path, monkeypatch, eagerly
):
    stores = [prepared["test"], labels]
    arguments = prepared["valid"], tmp_path / "broken"
    system = dataclasses.replace(
        short_system,
        training=dataclasses.replace(short_system.training, checkpoint_minutes=0.0),
    )

    class Killed(Exception):
        pass

    real = loop.KeepProgress.on_train_batch_end

    def die(self, batch, logs=None):
        real(self, batch, logs)
        if self.progress.batches == 3 and not self.progress.epochs:
            raise Killed

    monkeypatch.setattr(loop.KeepProgress, "on_train_batch_end", die)
    with pytest.raises(Killed):
        train(system, stores, *arguments)
    monkeypatch.setattr(loop.KeepProgress, "on_train_batch_end", real)
    run = train(system, stores, *arguments)
    unbroken = train(system, stores, prepared["valid"], tmp_path / "unbroken")
    histories = [
        [json.loads(line) for line in (each.directory / "history.jsonl").read_text().splitlines()]
        for each in (run, unbroken)
    ]
    for found, expected in zip(*histories, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    with pytest.raises(CheckpointError, match="other training data"):
        train(system, stores, *arguments, shares=[1, 2])
    with pytest.raises(CheckpointError, match="other training data"):
        train(system, labels, *arguments)


@pytest.mark.slow
def test_the_command_takes_transcripts_beside_labels(
    short_system, prepared, labels, tmp_path, eagerly
):
    config = tmp_path / "student.yaml"
    config.write_text(to_yaml(short_system))
    options = {
        "--labels": labels.directory,
        "--transcribed": prepared["test"].directory,
        "--valid": prepared["valid"].directory,
        "--out": tmp_path / "run",
        "--shares": "0.25,0.75",
    }
    given = [str(word) for option in options.items() for word in option]
    cli.main(["distill", str(config), *given])
    stores = [prepared["test"], labels]
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    training = short_system.training
    assert identity["train"] == identity_of(sources_of(stores, training, [0.25, 0.75]))


def test_what_gives_no_target_is_named_with_its_store(
    short_system, prepared, labels, speak, prepare_config, tmp_path, monkeypatch
):
    rows = [{"audio": "a.wav", "text": "ba"}, {"audio": "b.wav", "text": "xyz"}]
    known = labels.index[0]["utterance_id"]  # what is learned from its labels is not dropped
    rows.append({"audio": "c.wav", "utterance_id": known})
    for row in rows:
        speak(tmp_path / row["audio"], "ba")
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config)
    store = open_store(tmp_path / "store")
    monkeypatch.setattr(loop, "_learn", lambda job, epochs: loop.Progress())
    with pytest.raises(CheckpointError, match="is not a finished run"):
        train(short_system, [store, labels], prepared["valid"], tmp_path / "run")
    (dropped,) = (tmp_path / "run" / "dropped.jsonl").read_text().splitlines()
    assert json.loads(dropped) == {
        "utterance_id": "b",
        "reasons": [{"reason": "untokenisable_text", "value": None, "threshold": None}],
        "store": str(store.directory),
    }


def test_audio_without_transcripts_is_not_lost_where_its_labels_are_learned(prepared, labels):
    sources = sources_of([prepared["train"], labels], TRAINING)
    first, second, *others = (row["utterance_id"] for row in labels.index)
    assert set(others) < {row["utterance_id"] for row in prepared["train"].index}
    no_text = (Fault("no_transcript"),)
    without = [Survey([Dropped(name, no_text) for name in names], {})
               for names in ([first, second], [second])]  # fmt: skip
    assert lost_of(sources, without) == {second}
    assert lost_of(sources[:1], without[:1]) == {first, second}


@pytest.mark.parametrize(("num_hypotheses", "warned"), [(2, False), (9, True)])
def test_more_hypotheses_than_labels_hold_are_warned_of(labels, num_hypotheses, warned, caplog):
    objective = dataclasses.replace(OBJECTIVE, num_hypotheses=num_hypotheses)
    (source,) = sources_of(labels, dataclasses.replace(TRAINING, objective=objective))
    source.survey(TOKENIZER)
    assert (f"{labels.name}: no utterance fills" in caplog.text) == warned


def test_a_store_of_which_nothing_can_be_learned_is_named(short_system, prepared, labels, tmp_path):
    tokenizer = dataclasses.replace(short_system.tokenizer, alphabet="xyz")
    system = dataclasses.replace(short_system, tokenizer=tokenizer)
    with pytest.raises(TextError, match=f"{prepared['test'].directory}: no utterance gives"):
        train(system, [prepared["test"], labels], prepared["valid"], tmp_path / "run")


def test_the_features_are_normalised_by_all_stores(stores):
    batches = list(loop._audio_of(sources_of(stores, TRAINING)))
    names = {name.decode() for batch in batches for name in batch["utterance_id"].numpy()}
    assert names == {row["utterance_id"] for store in stores for row in store.index}


def test_given_units_are_taken_and_tell_one_run_from_another(
    stores, tiny_system, prepared, tmp_path, monkeypatch
):
    given = CharacterTokenizer(" abdeikmosu'z")
    monkeypatch.setattr(loop, "_learn", lambda job, epochs: Progress([{"val_wer": 0.5}]))
    monkeypatch.setattr(loop, "load_run", load_tokenizer)
    system = dataclasses.replace(tiny_system, training=TRAINING)
    own = train(system, stores, prepared["valid"], tmp_path / "own")
    taken = train(system, stores, prepared["valid"], tmp_path / "taken", tokenizer=given)
    assert taken.pieces == given.pieces != own.pieces
    with pytest.raises(CheckpointError, match="holds a run of other settings or data: other token"):
        train(system, stores, prepared["valid"], tmp_path / "taken")


def test_given_units_come_before_those_of_the_run_to_begin_from(stores, teacher):
    given = CharacterTokenizer(" abdeikmosu'z")
    config, sources = teacher.system.tokenizer, sources_of(stores, TRAINING)
    assert tokenizer_of(sources, config, initial=teacher) is teacher.tokenizer
    assert tokenizer_of(sources, config, initial=teacher, given=given) is given
