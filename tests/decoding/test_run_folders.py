"""A run folder is read whole, or the file at fault is named."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import yaml
from helpers import VOCAB_SIZE, tiny_config, tiny_model, tokenizer

import tfkd
from tfkd.config import NoDecoderConfig, TokenizerConfig
from tfkd.decoding.run_writing import save_run
from tfkd.decoding.runs import CONFIG, load_run
from tfkd.errors import CheckpointError, ConfigError
from tfkd.objectives import Truth
from tfkd.text import train_tokenizer


@pytest.fixture
def copied(teacher, tmp_path):
    return shutil.copytree(teacher.directory, tmp_path / "run")


def test_a_config_that_was_cut_gives_no_default_in_silence(copied, teacher):
    """A cut YAML file is often YAML: the settings that are missing would become defaults.

    Seen wherever a section or the end of a line is lost.
    """
    whole = (copied / CONFIG).read_bytes()
    assert load_run(copied).system == teacher.system
    last_section = whole.index(b"\ndecoding:")
    cuts = [n for n in range(0, len(whole), 53) if n < last_section or whole[n - 1 : n] != b"\n"]
    assert len(cuts) > 20
    for length in cuts:
        (copied / CONFIG).write_bytes(whole[:length])
        with pytest.raises((CheckpointError, ConfigError), match=CONFIG):
            load_run(copied)


def test_the_config_of_another_model_is_refused(copied):
    content = yaml.safe_load((copied / CONFIG).read_text())
    content["model"]["encoder"]["units"] += 1
    (copied / CONFIG).write_text(yaml.safe_dump(content))
    with pytest.raises(CheckpointError, match=r"config\.yaml: describes another model than"):
        load_run(copied)


def test_a_run_whose_training_goes_on_is_warned_of(copied, caplog):
    load_run(copied)
    assert not caplog.records
    (copied / "complete.json").unlink()
    load_run(copied)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{copied}: its training has not ended")


def test_a_run_is_known_by_the_weights_that_were_read(copied, teacher):
    run = load_run(copied)
    (copied / "model.keras").write_bytes(b"of a later epoch")
    assert run.sha256 == run.with_decoding(["beam_width=3"]).sha256 == teacher.sha256


# --- save_run


def test_a_saved_run_says_which_tokenizer_it_has(tmp_path):
    """A training that begins from the run keeps its tokenizer only if these settings agree."""
    run = save_run(tiny_model(), tokenizer(), tmp_path / "characters")
    assert run.system.tokenizer == TokenizerConfig(alphabet=" abcd")
    settings = TokenizerConfig(kind="sentencepiece", vocab_size=12)
    subwords = train_tokenizer(["ab ab cd", "cd ab", "abcd ab"], settings)
    run = save_run(tfkd.Recogniser(tiny_config(), 12), subwords, tmp_path / "subwords")
    assert run.system.tokenizer == settings
    assert run.tokenizer.pieces == subwords.pieces


def test_a_model_with_ctc_alone_is_saved_without_an_objective(tmp_path):
    config = dataclasses.replace(tiny_config(), decoder=NoDecoderConfig())
    run = save_run(tfkd.Recogniser(config, VOCAB_SIZE), tokenizer(), tmp_path / "run")
    assert run.system.training.ctc_weight == 1


def test_a_head_that_was_not_trained_is_warned_of_where_it_joins_the_search(tmp_path, caplog):
    model = tiny_model()
    model.compile(objective=tfkd.objectives.Truth(ctc_weight=0.0))
    run = save_run(model, tokenizer(), tmp_path / "run")
    run.decoder()
    assert not caplog.records
    run.with_decoding(["fusion.ctc_weight=0.3"]).decoder()
    (record,) = caplog.records
    assert "its CTC head joins the search, but training.ctc_weight is 0" in record.getMessage()


def test_a_model_that_is_not_compiled_is_warned_of_and_keeps_its_search(tmp_path, caplog):
    decoding = tfkd.config.DecodingConfig(beam_width=2, max_tokens=9)
    run = save_run(tiny_model(), tokenizer(), tmp_path / "run", decoding=decoding)
    assert run.system.decoding == decoding
    (record,) = caplog.records
    assert "the model is not compiled, so nothing tells whether its CTC head" in record.getMessage()


def test_a_run_is_not_saved_over_a_training(tmp_path, teacher):
    out = shutil.copytree(teacher.directory, tmp_path / "run")
    before = (out / "model.keras").read_bytes()
    with pytest.raises(CheckpointError, match="holds a training, whose checkpoints would stay"):
        save_run(tiny_model(), tokenizer(), out)
    assert (out / "model.keras").read_bytes() == before


def test_the_tokenizer_of_another_model_is_refused(teacher):
    with pytest.raises(ConfigError, match="tokens, the tokenizer"):
        tfkd.Decoder(teacher.model, tokenizer(), tfkd.config.DecodingConfig())


class Louder(tfkd.Recogniser):
    """Has the same weights as its base, and gives other encodings."""

    def encode(self, waveform, num_samples, training=False):
        return super().encode(2 * waveform, num_samples, training)


class Shorter(tfkd.Recogniser):
    """Trains otherwise than its base, and computes the same."""

    def train_step(self, batch):
        return super().train_step(batch)


def test_a_model_that_is_trained_otherwise_is_saved(tmp_path):
    model = Shorter(tiny_config(), VOCAB_SIZE)
    run = save_run(model, tokenizer(), tmp_path / "run")
    assert run.model.count_params() == model.count_params()


class OwnTokenizer:
    vocab_size = VOCAB_SIZE


def with_another_config() -> tfkd.Recogniser:
    model = tiny_model(cell="lstm")
    model.config = tiny_config(cell="gru")
    return model


def with_ctc_that_it_lacks() -> tfkd.Recogniser:
    model = tiny_model(ctc=False)
    model.compile("adam", Truth(ctc_weight=0.5))
    return model


@pytest.mark.parametrize(
    ("model", "units", "message"),
    [
        (
            lambda: Louder(tiny_config(), VOCAB_SIZE),
            tokenizer(),
            "class Louder, which computes encode in",
        ),
        (with_another_config, tokenizer(), "other layers than its config names"),
        (tiny_model, OwnTokenizer(), "tokenizer of class OwnTokenizer"),
        (lambda: tfkd.Recogniser(tiny_config(), 12), tokenizer(), "12 tokens, the tokenizer 9"),
        (with_ctc_that_it_lacks, tokenizer(), "training.ctc_weight: needs model.ctc"),
    ],
)
def test_what_no_run_can_hold_is_refused_before_anything_is_written(
    tmp_path, model, units, message
):
    with pytest.raises((CheckpointError, ConfigError), match=message) as error:
        save_run(model(), units, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
