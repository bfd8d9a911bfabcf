"""Whisper: read from both layouts, exact search over its own teacher forcing, clear errors."""

from __future__ import annotations

import dataclasses
import itertools
import json

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("tokenizers", reason="needs pip install 'tfkd[whisper]'")

import whisper_folders as folders
from safetensors.numpy import save_file

from tfkd.config import DecodingConfig, FusionConfig, WhisperConfig
from tfkd.errors import CheckpointError, ConfigError
from tfkd.models.frontend.whisper_mel import WhisperMel, mel_filters
from tfkd.models.whisper.folder import WhisperFolder, load_whisper
from tfkd.models.whisper.search import WhisperSearch

GERMAN = WhisperConfig(language="de")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> WhisperFolder:
    return load_whisper(folders.write_huggingface(tmp_path_factory.mktemp("whisper") / "hf"))


@pytest.fixture(scope="module")
def audio() -> tuple[np.ndarray, np.ndarray]:
    """Two utterances of different length, zero beyond the end of the shorter one."""
    generator = np.random.default_rng(1)
    waveform = (0.3 * generator.standard_normal([2, 48000])).astype(np.float32)
    waveform[0] *= np.sin(np.arange(48000) / 900)
    waveform[1, 16000:] = 0
    return waveform, np.array([48000, 16000], np.int32)


def search(whisper: WhisperFolder, options: WhisperConfig = GERMAN, **settings) -> WhisperSearch:
    settings = {"beam_width": 4, "num_hypotheses": 4, "max_tokens": 5, **settings}
    return WhisperSearch(whisper.model, whisper.tokens, DecodingConfig(**settings), options)


def forced(found: WhisperSearch, waveform: np.ndarray, prompt: list[int], token_ids) -> np.ndarray:
    """log_probs [U] of token_ids after the prompt, of one waveform [N]."""
    inputs = tf.constant([[*prompt, *token_ids]], tf.int32)[:, :-1]
    logits = found.model({"waveform": waveform[None], "token_ids": inputs})[:, len(prompt) - 1 :]
    is_first = tf.equal(tf.range(len(token_ids)), 0)[None, :, None]
    log_probs = found.allowed_log_probs(logits, is_first)[0]
    return tf.gather(log_probs, token_ids, batch_dims=1).numpy()


def prompt_of(whisper: WhisperFolder, language: str = "de") -> list[int]:
    ids = whisper.tokens.special
    names = (folders.START, f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>")
    return [ids[name] for name in names]


# --- features


def test_mel_filters_are_slaneys():
    filters = mel_filters(80)
    assert filters.shape == (201, 80)
    # Mel 15 is 1 kHz and mel 42 is 6.4 kHz: Slaney's scale ends at 45.2456 at 8 kHz.
    centres_hz = np.argmax(filters, 0) * 40.0
    mels = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 82)[1:-1]
    expected = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    assert np.abs(centres_hz - expected).max() <= 20
    np.testing.assert_allclose(filters[:, 60:].sum(0) * 40, 1, atol=0.02)


@pytest.mark.parametrize("num_mels", [80, 128])
def test_features_are_those_of_a_plain_computation(audio, num_mels):
    """Frame by frame in float64, as the paper and OpenAI's program have it."""
    waveform = audio[0]
    found = WhisperMel(num_mels)(waveform).numpy()
    assert found.shape == (2, 3000, num_mels)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for row, samples in enumerate(waveform):
        padded = np.pad(samples.astype(np.float64), (0, 480000 - len(samples)))
        padded = np.pad(padded, 200, mode="reflect")
        frames = np.stack([padded[i * 160 : i * 160 + 400] for i in range(3000)]) * window
        energy = np.abs(np.fft.rfft(frames)) ** 2 @ mel_filters(num_mels).astype(np.float64)
        decades = np.log10(np.maximum(energy, 1e-10))
        expected = (np.maximum(decades, decades.max() - 8) + 4) / 4
        np.testing.assert_allclose(found[row], expected, atol=2e-4)


# --- reading


@pytest.mark.parametrize("files", [1, 3])
def test_both_layouts_hold_the_same_model(tmp_path, audio, files):
    size = len(folders.PIECES) + len(folders.ENGLISH_SPECIAL)
    weights = folders.tensors(3, vocab_size=size)
    first = folders.write_huggingface(
        tmp_path / "hf", weights, files=files, generation={"is_multilingual": False}
    )
    folders.write_tokenizer(first, folders.ENGLISH_SPECIAL)
    found = load_whisper(first), load_whisper(folders.write_ctranslate2(tmp_path / "ct2", weights))
    inputs = {"waveform": audio[0], "token_ids": np.array([[6, 7, 0, 2]] * 2)}
    logits = [each.model(inputs).numpy() for each in found]
    np.testing.assert_array_equal(*logits)
    assert np.std(logits[0]) > 0.1
    assert found[0].tokens.decode([2, 1, 5]) == found[1].tokens.decode([2, 1, 5]) == "ab"
    assert found[0].identity != found[1].identity


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 1e-2), (ml_dtypes.bfloat16, 1e-1)])
def test_half_precision_is_read_as_float32(whisper, tmp_path, dtype, tolerance):
    weights = {name: values.astype(dtype) for name, values in folders.tensors().items()}
    half = load_whisper(folders.write_huggingface(tmp_path / "half", weights))
    for whole, found in zip(whisper.model.weights, half.model.weights, strict=True):
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, whole, atol=tolerance)


def test_int8_rows_are_read_by_their_scale(tmp_path):
    whole = load_whisper(folders.write_ctranslate2(tmp_path / "whole"))
    rounded = load_whisper(folders.write_ctranslate2(tmp_path / "int8", dtype="int8"))
    for exact, found in zip(whole.model.weights, rounded.model.weights, strict=True):
        step = np.abs(exact).max() / 127
        np.testing.assert_allclose(found, exact, atol=step / 2 + 1e-7)


def test_a_vocabulary_without_tokenizer_json(whisper, tmp_path):
    folder = folders.write_huggingface(tmp_path / "old")
    (folder / "tokenizer.json").unlink()
    own = {piece: i for i, piece in enumerate(folders.PIECES)}
    (folder / "vocab.json").write_text(json.dumps(own))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    added = {text: i for text, i in folders.ids_of().items() if text not in own}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    tokens = load_whisper(folder).tokens
    assert tokens.special == whisper.tokens.special
    assert tokens.languages == whisper.tokens.languages == {"en": 7, "de": 8, "cs": 9}
    assert tokens.decode([2, 1, 3, 5]) == "ab b"


def test_identity_is_that_of_every_file(whisper, tmp_path):
    folder = folders.write_huggingface(tmp_path / "same")
    assert load_whisper(folder).identity == whisper.identity
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(generation | {"suppress_tokens": []}))
    assert load_whisper(folder).identity != whisper.identity


def test_an_output_projection_of_its_own_is_used(whisper, tmp_path, audio):
    weights = folders.tensors()
    weights["proj_out.weight"] = 2 * weights["model.decoder.embed_tokens.weight"]
    untied = load_whisper(folders.write_huggingface(tmp_path / "untied", weights))
    inputs = {"waveform": audio[0], "token_ids": np.array([prompt_of(whisper)] * 2)}
    np.testing.assert_allclose(untied.model(inputs), 2 * whisper.model(inputs), rtol=1e-5)


# --- searching


@pytest.mark.slow
def test_a_global_policy_of_keras_changes_nothing(whisper, tmp_path, audio):
    folder = folders.write_huggingface(tmp_path / "whisper")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = load_whisper(folder).model
        encoded = model.encode(audio[0])
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}
    np.testing.assert_array_equal(encoded, whisper.model.encode(audio[0]))


@pytest.mark.slow
def test_log_probs_of_the_search_are_those_of_teacher_forcing(whisper, audio):
    found = search(whisper, beam_width=5, num_hypotheses=5, max_tokens=8)
    result = found.decode(*audio)
    assert len({tuple(ids) for ids in result.token_ids[0].numpy().tolist()}) == 5
    for row, rank in itertools.product(range(2), range(5)):
        length = int(result.num_tokens[row, rank])
        token_ids = result.token_ids[row, rank, :length].numpy().tolist()
        expected = forced(found, audio[0][row], prompt_of(whisper), token_ids)
        np.testing.assert_allclose(result.token_log_probs[row, rank, :length], expected, atol=2e-5)
        np.testing.assert_allclose(result.log_prob[row, rank], expected.sum(), atol=1e-4)


@pytest.mark.slow
def test_the_k_best_are_those_of_brute_force(whisper, audio):
    """All sequences of up to three tokens, each scored by teacher forcing."""
    limit, end = 3, whisper.tokens.end_id
    found = search(whisper, beam_width=32, num_hypotheses=8, max_tokens=limit)
    result = found.decode(*audio)
    sayable = [i for piece, i in folders.ids_of(()).items() if piece not in folders.SUPPRESSED]
    endings = [
        (*words, end) for n in range(limit) for words in itertools.product(sayable, repeat=n)
    ]
    for row in range(2):
        scores = {
            ids: float(forced(found, audio[0][row], prompt_of(whisper), list(ids)).sum())
            for ids in endings
        }
        possible = [ids for ids in endings if scores[ids] > -1e8]
        expected = sorted(possible, key=lambda ids: -scores[ids])[:8]
        ids = [
            tuple(ids[:n].tolist())
            for ids, n in zip(
                result.token_ids[row].numpy(), result.num_tokens[row].numpy(), strict=True
            )
        ]
        assert ids == expected
        np.testing.assert_allclose(
            result.log_prob[row], [scores[ids] for ids in expected], atol=1e-4
        )


@pytest.mark.slow
def test_what_is_suppressed_is_never_said(whisper, tmp_path, audio):
    ids = folders.ids_of()
    suppressed = {ids[name] for name in folders.SUPPRESSED}
    suppressed_first = {ids[name] for name in folders.SUPPRESSED_FIRST}
    special = {ids[name] for name in folders.SPECIAL} - {ids[folders.END]}

    def said(found: WhisperFolder) -> tuple[set[int], set[int]]:
        """All tokens of a wide search, and the first ones."""
        settings = {"beam_width": 32, "num_hypotheses": 32, "max_tokens": 2}
        result = search(found, **settings).decode(*audio)
        token_ids = result.token_ids.numpy()[result.num_tokens.numpy() > 0]
        return set(token_ids.flatten().tolist()), set(token_ids[:, 0].tolist())

    everywhere, first = said(whisper)
    assert not everywhere & (suppressed | special)
    assert not first & suppressed_first
    nothing = {"suppress_tokens": [], "begin_suppress_tokens": []}
    everywhere, first = said(
        load_whisper(folders.write_huggingface(tmp_path / "free", generation=nothing))
    )
    assert suppressed <= everywhere
    assert suppressed_first <= first
    assert not everywhere & special


@pytest.mark.slow
def test_limits_of_length_hold_for_each_utterance(whisper, audio):
    """The first utterance goes on after the second was stopped, and says what it says alone."""
    found = search(whisper, max_tokens=8, max_tokens_per_second=2.0, min_tokens=6)
    both, alone = found.decode(*audio), found.decode(audio[0][:1], audio[1][:1])
    assert both.num_tokens.numpy().max(1).tolist() == [6, 2]
    np.testing.assert_array_equal(both.token_ids[:1], alone.token_ids)
    np.testing.assert_allclose(both.log_prob[:1], alone.log_prob, atol=1e-5)


def test_the_language_is_detected_where_none_is_named(whisper, audio):
    found = search(whisper, WhisperConfig())
    across = whisper.model.decoder.across(whisper.model.encode(audio[0]))
    prompts = found.prompt(across, 2).numpy()
    start = whisper.tokens.start_id
    logits = whisper.model({"waveform": audio[0], "token_ids": np.array([[start]] * 2)}).numpy()
    languages = sorted(whisper.tokens.languages.values())
    for prompt, row in zip(prompts, logits[:, 0], strict=True):
        best = languages[int(np.argmax(row[languages]))]
        ids = whisper.tokens.special
        assert prompt.tolist() == [start, best, ids["<|transcribe|>"], ids["<|notimestamps|>"]]


def test_the_folder_may_name_the_language(tmp_path):
    ids = folders.ids_of()
    forced_ids = {"forced_decoder_ids": [[1, ids["<|cs|>"]], [2, ids["<|transcribe|>"]]]}
    for number, generation in enumerate([forced_ids, {"language": "<|cs|>"}, {"language": "cs"}]):
        folder = folders.write_huggingface(tmp_path / str(number), generation=generation)
        assert load_whisper(folder).tokens.default_language == "cs"


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({"language": "xx"}, {}, "labels.whisper.language: 'xx' is none of cs, de, en"),
        ({}, {"max_tokens": 21}, "max_tokens: 21 is above 20, this Whisper's limit"),
        ({}, {"coverage_penalty": 0.1}, "coverage_penalty: is not known for a Whisper"),
        ({}, {"fusion": FusionConfig(lm="a.arpa", lm_weight=0.1)}, "fusion.lm: "),
        ({}, {"fusion": FusionConfig(ctc_weight=0.1)}, "fusion.ctc_weight: "),
    ],
)
def test_what_cannot_be_done_is_refused(whisper, options, settings, message):
    with pytest.raises(ConfigError, match=message):
        search(whisper, WhisperConfig(**options), **settings)


def test_an_english_model_has_no_language_and_no_translation(tmp_path):
    tokens = load_whisper(folders.write_ctranslate2(tmp_path / "english")).tokens
    assert not tokens.is_multilingual
    assert tokens.prompt_after_start("en", "transcribe") == (tokens.special["<|notimestamps|>"],)
    with pytest.raises(ConfigError, match="English only, not 'de'"):
        tokens.prompt_after_start("de", "transcribe")
    with pytest.raises(ConfigError, match="cannot translate"):
        tokens.prompt_after_start(None, "translate")


# --- damage


def without(name: str) -> dict[str, np.ndarray]:
    return {key: values for key, values in folders.tensors().items() if key != name}


def changed(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    return {**folders.tensors(), name: values}


NORM = "model.decoder.layers.1.final_layer_norm.weight"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (without(NORM), "the weights decoder.layers.1.final_layer_norm.weight are missing"),
        (changed(NORM, np.ones(3, np.float32)), r"have the shape \(3,\), not \(16,\)"),
        (changed(NORM, np.full(16, np.nan, np.float32)), "are not finite"),
        (changed("model.lora_A", np.ones(3, np.float32)), "1 tensors are none of a Whisper's"),
    ],
)
def test_weights_that_are_no_whispers_are_one_line(tmp_path, weights, message):
    folder = folders.write_huggingface(tmp_path / "bad", weights)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_whisper(folder)
    assert "\n" not in str(raised.value)


def _cut(name: str):
    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-100])

    return damage


def _json(name: str, **values):
    def damage(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | values))

    return damage


def _remove(*names: str):
    return lambda folder: [(folder / name).unlink() for name in names]


def _index(folder):
    (folder / "model.safetensors").rename(folder / "other")
    index = {"weight_map": {"a": "../other"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut("model.safetensors"), "is no readable safetensors file"),
        (_cut("config.json"), "config.json: is not JSON"),
        (_cut("tokenizer.json"), "its vocabulary is damaged"),
        (_json("config.json", model_type="bert"), "model_type is 'bert', not whisper"),
        (_json("config.json", d_model=None), "a size is missing or no number"),
        (_json("config.json", vocab_size=9), "has a token 13, but its weights"),
        (_json("config.json", d_model=2**40), r"conv1.weight have the shape \(16, 80, 3\), not"),
        (
            _json("config.json", encoder_layers=10**9),
            "999999999.fc1.weight are missing",
        ),
        (
            _json("config.json", encoder_attention_heads=3),
            "units of its encoder cannot be divided among 3",
        ),
        (_json("config.json", max_source_positions=750), "its windows are 15 s long, but tfkd"),
        (_json("config.json", scale_embedding=True), "scale_embedding is not that"),
        (_json("generation_config.json", suppress_tokens=["x"]), "is no list of token ids"),
        (_json("generation_config.json", suppress_tokens=5), "is no list of token ids"),
        (_json("generation_config.json", forced_decoder_ids=[1]), "is no list of pairs"),
        (_remove("tokenizer.json"), "has no vocabulary .put the model's tokenizer.json"),
        (_remove("model.safetensors"), "is no Whisper: neither model.safetensors nor model.bin"),
        (_index, "names '../other', which is missing"),
        (_pickle, "keeps its weights as a pickle"),
    ],
)
def test_damaged_folders_are_one_line(tmp_path, damage, message):
    folder = folders.write_huggingface(tmp_path / "bad")
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_whisper(folder)
    assert "\n" not in str(raised.value)
    assert raised.value.remedy


def test_damaged_binaries_are_one_line(tmp_path):
    folder = folders.write_ctranslate2(tmp_path / "ct2")
    whole = (folder / "model.bin").read_bytes()
    cuts = np.linspace(0, len(whole) - 1, 23).astype(int)
    for data in [whole[:cut] for cut in cuts] + [b"\5" + whole[1:], whole.replace(b"Wh", b"Xh", 1)]:
        (folder / "model.bin").write_bytes(data)
        with pytest.raises(CheckpointError, match="model.bin: ") as raised:
            load_whisper(folder)
        assert "\n" not in str(raised.value)


def test_config_of_the_model_is_all_it_needs(whisper):
    config = whisper.model.get_config()
    again = type(whisper.model).from_config(json.loads(json.dumps(config)))
    assert again.sizes == whisper.model.sizes
    assert [w.shape for w in again.weights] == [w.shape for w in whisper.model.weights]
    assert dataclasses.asdict(again.sizes)["num_mels"] == folders.MELS


def test_a_pickle_named_like_safetensors_is_not_loaded(tmp_path):
    folder = folders.write_huggingface(tmp_path / "evil")
    (folder / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(CheckpointError, match="is no readable safetensors file"):
        load_whisper(folder)
    save_file(folders.tensors(), folder / "model.safetensors")
    load_whisper(folder)
