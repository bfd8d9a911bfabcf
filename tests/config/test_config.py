"""Strict configs: every mistake is named, and the digest stands for the settings alone."""

import dataclasses
import importlib
import json
import pkgutil
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml

import tfkd.config
from tfkd.config import (
    DecodingConfig,
    ExportConfig,
    FilterConfig,
    FusionConfig,
    LabelConfig,
    LanguageModelConfig,
    ModelConfig,
    PrepareConfig,
    RunConfig,
    SystemConfig,
    TrainingConfig,
    config_digest,
    from_dict,
    load_run_config,
    load_system_config,
    load_system_configs,
    to_dict,
    to_yaml,
    with_overrides,
)
from tfkd.config.bounds import LATER, Bounds, bounds_of, number
from tfkd.config.strict_yaml import read_yaml
from tfkd.decoding.defaults import resolved_without_ctc
from tfkd.errors import ConfigError

DIRECTORY = Path(__file__).parents[2] / "configs"
LANGUAGE_MODELS = sorted(DIRECTORY.glob("lm/*.yaml"))
CONFIGS = sorted(set(DIRECTORY.rglob("*.yaml")) - set(LANGUAGE_MODELS))


def written(tmp_path, text, name="run.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(kind, values):
    with pytest.raises(ConfigError) as caught:
        from_dict(kind, values)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.remedy
    return message


def test_an_unknown_key_names_its_place_and_the_nearest_valid_one():
    message = refusal(RunConfig, {"teacher": {"model": {"encoder": {"unit": 3}}}})
    assert "'teacher.model.encoder.unit'" in message
    assert "did you mean 'units'?" in message


def test_an_unknown_key_that_is_near_to_none_lists_the_valid_ones():
    message = refusal(SystemConfig, {"zzz": 3})
    assert "valid keys: tokenizer, model, training, decoding" in message


def test_the_file_is_named(tmp_path):
    path = written(tmp_path, "teacher: {trainign: {}}")
    with pytest.raises(ConfigError, match="did you mean 'training'") as caught:
        load_run_config(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"epochs": "three"}, "epochs: expected int, got 'three'"),
        ({"epochs": 3.5}, "epochs: expected int, got 3.5"),
        ({"epochs": True}, "epochs: expected int, got True"),
        ({"epochs": None}, "epochs: expected int, got None"),
        ({"learning_rate": "fast"}, "learning_rate: 'fast' is not a number"),
        ({"learning_rate": float("nan")}, "learning_rate: nan is not a finite number"),
        ({"learning_rate": "inf"}, "learning_rate: inf is not a finite number"),
        ({"learning_rate": True}, "learning_rate: expected float, got True"),
        ({"learning_rate": [1.0]}, "learning_rate: expected float, got [1.0]"),
        ({"speed_factors": 1.0}, "speed_factors: expected a list, got 1.0"),
        ({"speed_factors": ["a"]}, "speed_factors: 'a' is not a number"),
        ({"objective": "truth"}, "objective: expected a mapping, got 'truth'"),
        ({"objective": {"kind": "magic"}}, "objective.kind: 'magic' is none of truth, seq_kd"),
        ({"objective": {"filters": {"drop_unfinished": 1}}}, "drop_unfinished: expected bool"),
        ({"objective": {"filters": {"max_repeat": 3}}}, "did you mean 'max_repeats'"),
        ({"objective": {"filters": {"min_coverage": -0.1}}}, "-0.1 is below 0"),
        (
            {
                "objective": {
                    "filters": {"min_characters_per_second": 5, "max_characters_per_second": 4}
                }
            },
            "objective.filters.min_characters_per_second: exceeds max_characters_per_second",
        ),
        ({3: 4}, "unknown key '3'"),
        ([], "config: expected a mapping, got []"),
    ],
)
def test_a_value_of_another_type_is_refused(values, expected):
    assert expected in refusal(TrainingConfig, values)


@pytest.mark.parametrize("new", [{}, {"filters": {"max_wer": 0.3}}])
def test_a_setting_of_earlier_versions_is_read_where_it_stands_now(new):
    old = from_dict(TrainingConfig, {"objective": {"drop_unfinished": False, **new}})
    filters = {**new.get("filters", {}), "drop_unfinished": False}
    assert old == from_dict(TrainingConfig, {"objective": {"filters": filters}})


def test_numbers_that_yaml_reads_as_other_types():
    config = from_dict(TrainingConfig, yaml.safe_load("{learning_rate: 1e-3, clip_norm: 5}"))
    assert config.learning_rate == 1e-3
    assert config.clip_norm == 5.0
    assert isinstance(config.clip_norm, float)


def test_an_override_changes_no_other_section_that_an_alias_makes_equal(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("teacher: {training: &same {epochs: 5}}\nstudent: {training: *same}\n")
    config = load_run_config(path, ["student.training.batch_size=3", "student.training.epochs=7"])
    trainings = [config.systems[role].training for role in ("student", "teacher")]
    assert [(each.epochs, each.batch_size) for each in trainings] == [
        *((7, 3), (5, TrainingConfig().batch_size)),
    ]


def test_an_optional_value_may_be_null():
    assert from_dict(SystemConfig, {"tokenizer": {"alphabet": None}}).tokenizer.alphabet is None


UNTRANSCRIBED = {
    "teacher": "whisper:small",
    "corpora": {"train": [], "untranscribed": ["calls"]},
    "baselines": [],
}


CUT = {"too_long": "split"}


def learning(objective: dict) -> dict:
    return {"student": {"training": {"objective": objective}}}


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (SystemConfig, {"decoding": {"num_hypotheses": 5}}, "decoding.num_hypotheses: cannot"),
        (RunConfig, {"labels": {"beam_width": 3}}, "labels.num_hypotheses: cannot exceed"),
        (RunConfig, {"labels": {"min_tokens": 9, "max_tokens": 8}}, "labels.min_tokens: cannot"),
        (
            RunConfig,
            {"labels": {"min_tokens": 9}, "teacher": {"decoding": {"max_tokens": 8}}},
            "labels.min_tokens: cannot exceed",
        ),
        (
            RunConfig,
            {
                "labels": {"fusion": {"ctc_weight": 0.1}},
                "teacher": {"model": {"ctc": False}, "training": {"ctc_weight": 0}},
            },
            "labels.fusion.ctc_weight: needs teacher.model.ctc: true",
        ),
        (
            RunConfig,
            {
                "labels": {"fusion": {"ctc_weight": 0.1}},
                "generations": 2,
                "student": {"model": {"ctc": False}, "training": {"ctc_weight": 0}},
            },
            "labels.fusion.ctc_weight: needs student.model.ctc: true",
        ),
        (
            RunConfig,
            {
                "labels": {"fusion": {"ctc_weight": 0.1}},
                "teacher": {"training": {"ctc_weight": 0}},
            },
            "labels.fusion.ctc_weight: teacher.training.ctc_weight is 0",
        ),
        (
            RunConfig,
            learning({"kind": "mixture", "parts": [{}], "filters": {"max_repeats": 2}}),
            "student.training.objective.filters: a mixture has none",
        ),
        (PrepareConfig, {"piece_seconds": 3.0}, "piece_seconds: needs too_long: split"),
        (ExportConfig, {"max_wer_change": 2}, "max_wer_change: 2.0 is above 1"),
        (ExportConfig, {"max_wer_to_keras": 2}, "max_wer_to_keras: 2.0 is above 1"),
        (RunConfig, {"sweep": {"seeds": [0, 1, 0]}}, "sweep.seeds: names a seed twice"),
        (RunConfig, {"sweep": {"seeds": []}}, "sweep.seeds: is empty"),
        (
            RunConfig,
            {"sweep": {"grid": [{"labels.beam_width": [4]}, {"generation": []}]}},
            "sweep.grid: generation has no value to try",
        ),
        (
            RunConfig,
            {**UNTRANSCRIBED, "transcript_share": 0.3},
            "transcript_share: needs corpora.train",
        ),
        (
            RunConfig,
            {**UNTRANSCRIBED, "prepare": {"text": {"extra_characters": "-%"}}},
            "labels.whisper.extra_characters: differs from prepare.text's",
        ),
        (
            RunConfig,
            {"baselines": ["all"], **learning({"truth_audio": "filtered"})},
            "truth_audio: filtered needs hypotheses",
        ),
        (
            RunConfig,
            learning({"kind": "seq_kd", "num_hypotheses": 5}),
            "student.training.objective.num_hypotheses: the labels hold 4 hypotheses",
        ),
        (
            RunConfig,
            learning({"kind": "mixture", "parts": [{"kind": "seq_kd", "num_hypotheses": 5}]}),
            "the labels hold 4 hypotheses",
        ),
        (
            RunConfig,
            {"next_teacher": learning({"kind": "word_kd"})["student"]},
            "labels.top_m: is 0, so labels keep no posteriors for next_teacher",
        ),
        (
            RunConfig,
            {**UNTRANSCRIBED, **learning({"kind": "seq_inter"})},
            "student.training.objective: compares hypotheses with transcripts",
        ),
        (
            RunConfig,
            {**UNTRANSCRIBED, **learning({"kind": "seq_kd", "choice": "nearest_to_reference"})},
            "student.training.objective: compares hypotheses with transcripts",
        ),
        (RunConfig, {"export": {"formats": ["tflite-int4"]}}, "'tflite-int4' is none of"),
        (RunConfig, {"prepare": {"max_seconds": 31}}, "export.max_seconds: 30 is below prepare's"),
        (PrepareConfig, {"sample_rate_hz": 65_541}, "FLAC, which keeps the audio, has no 65541"),
        (PrepareConfig, {"sample_rate_hz": 655_360}, "sample_rate_hz: 655360 is above 655350"),
        (RunConfig, {"labels": {"beam_width": 65}}, "labels.beam_width: 65 is above 64"),
        (DecodingConfig, {"max_tokens": 3, "min_tokens": 4}, "min_tokens: cannot exceed"),
        (DecodingConfig, {"eos_threshold": -1}, "eos_threshold: -1.0 is below 0"),
        (LabelConfig, {"normalisation": "mean", "length_penalty": 1}, "length_penalty: has no"),
        (RunConfig, {"export": {"num_hypotheses": 9}}, "export.num_hypotheses: cannot exceed"),
        (ModelConfig, {"frontend": {"max_hz": 8001}}, "frontend.max_hz: must lie"),
        (ModelConfig, {"frontend": {"min_hz": 7600}}, "frontend.max_hz: must lie"),
        (ModelConfig, {"frontend": {"delta_orders": 3}}, "frontend.delta_orders: 3 is above 2"),
        (ModelConfig, {"encoder": {"time_reduction": 6}}, "must be a power of two"),
        (SystemConfig, {"tokenizer": {"kind": "sentencepiece"}}, "SentencePiece needs one"),
        (SystemConfig, {"model": {"ctc": False}}, "training.ctc_weight: needs model.ctc: true"),
        (TrainingConfig, {"speed_factors": []}, "speed_factors: needs at least one"),
        (TrainingConfig, {"speed_factors": [0.4, 1]}, "speed_factors: 0.4 is below 0.5"),
        (TrainingConfig, {"speed_factors": [1, 100]}, "speed_factors: 100.0 is above 2"),
        (TrainingConfig, {"learning_rate": 0}, "learning_rate: 0.0 is not above 0"),
        (TrainingConfig, {"final_learning_rate": 1}, "final_learning_rate: cannot exceed"),
        (TrainingConfig, {"ctc_weight": 1.5}, "ctc_weight: 1.5 is above 1"),
        (TrainingConfig, {"validation_beam_width": 65}, "validation_beam_width: 65 is above 64"),
        (
            RunConfig,
            {"prepare": {"max_rejected_share": 2}},
            "prepare.max_rejected_share: 2.0 is above 1",
        ),
        (TrainingConfig, {"epochs": 0}, "epochs: 0 is below 1"),
        (TrainingConfig, {"seed": -1}, "seed: -1 is below 0"),
        (TrainingConfig, {"distribution": "both"}, "none of none, mirrored, multi_worker"),
        (TrainingConfig, {"precision": "float16"}, "none of float32, mixed_float16"),
        (TrainingConfig, {"xla": True, "distribution": "mirrored"}, "xla: needs distribution: no"),
        (TrainingConfig, {"label_smoothing": 1}, "label_smoothing: 1.0 is not below 1"),
        (ModelConfig, {"encoder": {"dropout": 1.0}}, "encoder.dropout: 1.0 is not below 1"),
        (ModelConfig, {"encoder": {"dropout": -0.1}}, "encoder.dropout: -0.1 is below 0"),
        (ModelConfig, {"encoder": {"layers": 200_000}}, "encoder.layers: 200000 is above 1000"),
        (ModelConfig, {"frontend": {"window_ms": 1e6}}, "window_ms: 1000000.0 is above 1000"),
        (FilterConfig, {"min_mean_log_prob": 5}, "min_mean_log_prob: 5.0 is above 0"),
        (FilterConfig, {"min_coverage": 1.5}, "min_coverage: 1.5 is above 1"),
        (LanguageModelConfig, {"training": {"learning_rate": 0}}, "0.0 is not above 0"),
        (RunConfig, {"prepare": {"min_seconds": 30}}, "prepare.min_seconds: must be below"),
        (
            RunConfig,
            {"prepare": CUT | {"piece_seconds": 31}},
            "prepare.piece_seconds: cannot exceed",
        ),
        (
            RunConfig,
            {"prepare": CUT | {"piece_seconds": 0.3}},
            "prepare.piece_seconds: a quarter, the",
        ),
        (
            RunConfig,
            {"student": {"model": {"frontend": {"sample_rate_hz": 22050}}}},
            "student.model.frontend.sample_rate_hz: differs from prepare's",
        ),
    ],
)
def test_settings_that_depend_on_one_another(kind, values, expected):
    assert expected in refusal(kind, values)


def test_combinations_that_are_allowed():
    from_dict(SystemConfig, {"model": {"ctc": False}, "training": {"ctc_weight": 0}})
    from_dict(ModelConfig, {"encoder": {"reduction": "pyramid", "time_reduction": 4, "layers": 3}})
    from_dict(ModelConfig, {"frontend": {"max_hz": 8000}})
    at_8_khz = {"model": {"frontend": {"sample_rate_hz": 8000, "max_hz": 4000}}}
    prepare = {"sample_rate_hz": 8000}
    from_dict(RunConfig, {"prepare": prepare, "teacher": at_8_khz, "student": at_8_khz})


def test_overrides_reach_any_depth_and_are_read_as_yaml(tmp_path):
    path = written(tmp_path, "teacher: {training: {epochs: 2, seed: 7}}")
    config = load_run_config(
        path,
        [
            "teacher.training.epochs=5",
            "student.training.speed_factors=[1.0]",
            "student.tokenizer.alphabet=null",
            "work_dir=a=b",
        ],
    )
    assert config.teacher.training.epochs == 5
    assert config.teacher.training.seed == 7
    assert config.student.training.speed_factors == (1.0,)
    assert config.student.tokenizer.alphabet is None
    assert config.work_dir == "a=b"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epochs", "is not key=value"),
        ("=3", "is not key=value"),
        ("teacher.training.epoch=3", "did you mean 'epochs'"),
        ("work_dir.epochs=3", "'work_dir' is not a section"),
        ("teacher.training.epochs=many", "expected int, got 'many'"),
        ("teacher.training.speed_factors=[1.0", "speed_factors=.1.0': not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused(tmp_path, override, expected):
    with pytest.raises(ConfigError, match=expected.replace("[", r"\[")) as caught:
        load_run_config(written(tmp_path, "work_dir: w"), [override])
    assert caught.value.remedy


@pytest.mark.parametrize("key", ["decoding.max_tokens", "training.learning_rate"])
def test_numbers_beyond_any_use_are_refused(tmp_path, key):
    for value in ("1" + "0" * 30, "-1" + "0" * 30):
        with pytest.raises(ConfigError, match=f"{key}: -?1.* is too large"):
            load_run_config(written(tmp_path, ""), [f"teacher.{key}={value}"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[1, 2]", "is a mapping"), ("a: [", "not valid YAML"), (None, "cannot read the config")],
)
def test_a_file_that_is_no_config(tmp_path, text, expected):
    path = tmp_path / "missing.yaml" if text is None else written(tmp_path, text)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_run_config(path)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_an_override_can_name_the_file_of_a_system(tmp_path, monkeypatch):
    run = tmp_path / "jobs"
    run.mkdir()
    path = written(run, "student: phone.yaml")
    written(run, "training: {seed: 3}", name="phone.yaml")
    written(tmp_path, "training: {seed: 4}", name="other.yaml")
    written(tmp_path, "teacher: {training: {seed: 5}}", name="job.yaml")
    monkeypatch.chdir(tmp_path)  # Of the command line, not of the config.
    overrides = ["student=other.yaml", "student.training.epochs=2", "teacher=job.yaml"]
    config = load_run_config(path, [*overrides, "sweep.students.small=other.yaml"])
    assert [config.student.training.seed, config.student.training.epochs] == [4, 2]
    assert config.teacher.training.seed == 5
    assert config.sweep.students["small"].training.seed == 4
    for override in ("sweep.students={a: other.yaml}", "sweep={students: {a: other.yaml}}"):
        assert load_run_config(path, [override]).sweep.students["a"].training.seed == 4
    assert load_run_config(path, ["teacher=work/teacher"]).teacher == "work/teacher"
    with pytest.raises(ConfigError, match="missing.yaml"):
        load_run_config(path, ["student=missing.yaml"])


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert load_run_config(written(tmp_path, "")) == RunConfig()


def test_a_system_is_read_from_a_run_config_or_a_file_of_its_own(tmp_path):
    run = written(tmp_path, "teacher: {training: {seed: 1}}\nstudent: {training: {seed: 2}}")
    assert load_system_config(run, "teacher").training.seed == 1
    assert load_system_config(run, "student").training.seed == 2
    alone = written(tmp_path, "training: {seed: 3}", name="phone.yaml")
    assert set(load_system_configs(alone)) == {"phone"}
    assert load_system_config(alone, "student").training.seed == 3


def test_yaml_and_mapping_round_trips():
    config = from_dict(RunConfig, {"student": {"training": {"speed_factors": [1, 1.1]}}})
    assert from_dict(RunConfig, to_dict(config)) == config
    assert from_dict(RunConfig, yaml.safe_load(to_yaml(config))) == config


def test_the_digest_does_not_depend_on_order_or_spelling():
    spelled_out = {"epochs": 30, "learning_rate": "1e-3", "speed_factors": [0.9, 1, 1.1]}
    reordered = dict(reversed(spelled_out.items()))
    expected = config_digest(TrainingConfig())
    assert config_digest(from_dict(TrainingConfig, spelled_out)) == expected
    assert config_digest(from_dict(TrainingConfig, reordered)) == expected


# Commit 861bfce computed these; what it defaulted to and is null today is spelled out.
_OF_861BFCE = {
    "f0a4a29657afb094274855500299dd7b35ddf93a9a5c73a6c35d3564d644c057": PrepareConfig(),
    "22c66387150269fa2a8e37278fafa17ac11c05eaec5b86ff7d533d1ae49ac3f5": LabelConfig(
        normalisation="gnmt", fusion=FusionConfig(ctc_weight=0.0)
    ),
    "f11263ba6fd4a3d723e80231a83a62a35c658f82b3ff118ead5109a45f38dee2": LanguageModelConfig(),
    "22750e374bb542a6a2321170a840b408129f2be33d5b86c7db2366d43335fba6": ExportConfig(
        beam_width=4, num_hypotheses=1
    ),
}
_ADVICE = (
    "the digest of finished work has changed, so it would be done again: is a setting is_later?"
)


@pytest.mark.parametrize(
    ("digest", "config"), _OF_861BFCE.items(), ids=lambda each: type(each).__name__
)
def test_what_an_earlier_version_finished_keeps_its_digest(digest, config):
    assert config_digest(config) == digest, _ADVICE


def test_a_run_of_an_earlier_version_keeps_its_digest():
    run = Path(__file__).parents[1] / "earlier_versions" / "861bfce" / "run"
    identity = json.loads((run / "identity.json").read_text())
    system = from_dict(SystemConfig, read_yaml(run / "config.yaml"))
    assert config_digest(system) == identity["config"], _ADVICE


def test_the_digest_is_the_same_in_another_process():
    program = "from tfkd.config import *; print(config_digest(RunConfig()))"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == config_digest(RunConfig())


def test_there_are_configs():
    assert CONFIGS
    assert LANGUAGE_MODELS


@pytest.mark.parametrize("path", LANGUAGE_MODELS, ids=lambda path: path.stem)
def test_every_language_model_config_loads(path):
    assert from_dict(LanguageModelConfig, read_yaml(path), path=path).training.epochs


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_repository_loads(path):
    systems = load_system_configs(path)
    assert systems
    for system in systems.values():
        assert from_dict(SystemConfig, yaml.safe_load(to_yaml(system))) == system
    if "student" in systems:
        assert load_run_config(path).student == systems["student"]


def test_labels_are_decoded_like_the_teacher_but_for_their_own_settings():
    teacher = DecodingConfig(max_tokens=20, max_tokens_per_second=15.0, length_penalty=0.5)
    decoding = LabelConfig(beam_width=9, eos_threshold=1.5).decoding(teacher)
    assert decoding == DecodingConfig(
        beam_width=9,
        num_hypotheses=4,
        max_tokens=20,
        max_tokens_per_second=15.0,
        eos_threshold=1.5,
    )
    limited = LabelConfig(max_tokens=9, max_tokens_per_second=25.0).decoding(teacher)
    assert (limited.max_tokens, limited.max_tokens_per_second) == (9, 25.0)


def test_overrides_of_one_section():
    changed = with_overrides(DecodingConfig(), ["eos_threshold=1.5", "normalisation=mean"])
    assert changed == DecodingConfig(eos_threshold=1.5, normalisation="mean")
    with pytest.raises(ConfigError, match="did you mean 'min_tokens'"):
        with_overrides(DecodingConfig(), ["min_token=2"])


def config_classes() -> list[type]:
    """Every config class of the room, whichever module it stands in."""
    names = [each.name for each in pkgutil.iter_modules(tfkd.config.__path__)]
    modules = [importlib.import_module(f"tfkd.config.{name}") for name in names]
    every = [value for module in modules for value in vars(module).values()]
    classes = {value for value in every if isinstance(value, type)} - {Bounds}
    found = [each for each in classes if dataclasses.is_dataclass(each)]
    assert len(found) > 25
    return sorted(found, key=lambda each: each.__name__)


def is_numeric(hint: object) -> bool:
    return hint in (int, float) or any(map(is_numeric, typing.get_args(hint)))


def numbers_without_bounds(kind: type) -> list[str]:
    hints = typing.get_type_hints(kind)
    numeric = [each for each in dataclasses.fields(kind) if is_numeric(hints[each.name])]
    return [each.name for each in numeric if bounds_of(each) is None]


@pytest.mark.parametrize("kind", config_classes(), ids=lambda kind: kind.__name__)
def test_every_number_has_bounds_beside_it_or_says_that_any_will_do(kind):
    assert numbers_without_bounds(kind) == []


def test_a_number_that_was_declared_without_bounds_is_found():
    @dataclass(frozen=True)
    class Careless:
        weight: float = number(0.5, at_least=0)
        offset: float | None = None
        factors: tuple[float, ...] = (1.0,)
        shift: int = number(0)

    assert numbers_without_bounds(Careless) == ["offset", "factors"]


def other_values(hint: object, value: object) -> list:
    """Values of a type that are not `value`: each choice, each class, and each of its settings."""
    choices = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        found = [each for choice in choices for each in other_values(choice, value)]
    elif typing.get_origin(hint) is Literal:
        found = list(choices)
    elif typing.get_origin(hint) is tuple:
        given, another = value or (), other_values(choices[0], None)[0]
        found = [(*given, another), given[1:]]
        found += [
            (other, *given[1:]) for item in given[:1] for other in other_values(choices[0], item)
        ]
    elif typing.get_origin(hint) is dict:
        found = [{**(value or {}), "another": other_values(choices[1], None)[0]}]
    elif dataclasses.is_dataclass(hint):
        is_given = isinstance(value, hint)
        found = [each for _, each in changed(value)] if is_given else [hint()]
    else:
        given = value if isinstance(value, (str, int, float)) else ""
        others = {bool: not value, int: 7, float: 7.5, str: f"{given}x", typing.Any: "x"}
        found = [None if hint is types.NoneType else others[hint]]
    return [each for each in found if each != value]


def changed(config: object) -> Iterator[tuple[str, object]]:
    """Yields each setting's name, and the config with nothing but that setting changed."""
    hints = typing.get_type_hints(type(config))
    for name in hints:
        for other in other_values(hints[name], getattr(config, name)):
            yield name, dataclasses.replace(config, **{name: other})


@pytest.mark.parametrize("kind", config_classes(), ids=lambda kind: kind.__name__)
def test_the_digest_changes_with_every_setting(kind):
    hints = typing.get_type_hints(kind)
    fixed = {
        name
        for name, hint in hints.items()
        if typing.get_origin(hint) is Literal and len(typing.get_args(hint)) == 1
    }
    configs = list(changed(kind()))
    assert {name for name, _ in configs} == hints.keys() - fixed
    digests = [config_digest(kind()), *(config_digest(config) for _, config in configs)]
    assert len(set(digests)) == len(digests)


def test_the_digest_changes_with_the_number_of_configs():
    assert config_digest(TrainingConfig(), ModelConfig()) != config_digest(TrainingConfig())


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Bounds(at_least=0), [0, 0.5, 9], [-1e-9]),
        (Bounds(above=0), [1e-9, 1], [0, -1]),
        (Bounds(at_most=1), [1, -5], [1.1]),
        (Bounds(below=1), [0.999], [1, 2]),
        (Bounds(at_least=0, below=1), [0, 0.9], [-0.1, 1]),
        (Bounds(), [-1e9, 0, 1e9], []),
    ],
)
def test_bounds(bounds, inside, outside):
    assert [value for value in inside if bounds.fault(value)] == []
    assert all(bounds.fault(value) for value in outside)


@dataclass(frozen=True)
class Listener:
    units: int = number(3, at_least=1)
    kind: Literal["plain"] = field(default="plain", metadata=LATER)


@dataclass(frozen=True)
class Layered:
    kind: Literal["layered", "deep"] = "layered"
    layers: int = number(2, at_least=1)


@dataclass(frozen=True)
class Model:
    encoder: Listener | Layered = field(default_factory=Listener)
    extra: Listener | Layered | None = None
    bias: float = number(0.0, is_later=True)


def test_kind_chooses_the_class_of_a_tagged_union():
    assert from_dict(Model, {"encoder": {"kind": "layered", "layers": 5}}).encoder == Layered(
        layers=5
    )
    assert from_dict(Model, {"extra": {"kind": "deep"}}).extra == Layered(kind="deep")
    assert from_dict(Model, {"extra": None}).extra is None


def test_a_config_of_before_the_union_means_its_first_class():
    assert from_dict(Model, {"encoder": {"units": 7}}).encoder == Listener(units=7)
    assert from_dict(Model, {"encoder": {}}) == Model()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"kind": "layerd"}, "encoder.kind: 'layerd' is none of plain, layered, deep (did you"),
        ({"kind": ["deep"]}, "encoder.kind: ['deep'] is none of plain"),
        ({"kind": "layered", "units": 3}, "unknown key 'encoder.units'"),
        ({"layers": 3}, "unknown key 'encoder.layers'"),
        ({"kind": "layered", "layers": 0}, "encoder.layers: 0 is below 1"),
        (None, "encoder: expected a mapping, got None"),
        ("layered", "encoder: expected a mapping, got 'layered'"),
    ],
)
def test_a_tagged_union_is_read_strictly(encoder, message):
    assert message in refusal(Model, {"encoder": encoder})


def test_a_union_is_written_so_that_it_is_read_again():
    config = Model(encoder=Layered(layers=4), extra=Listener(units=1))
    assert from_dict(Model, yaml.safe_load(to_yaml(config))) == config


def test_an_override_of_kind_takes_the_defaults_of_the_new_kind():
    changed = with_overrides(Model(), ["encoder.kind=layered", "encoder.layers=9"])
    assert changed.encoder == Layered(layers=9)
    assert with_overrides(changed, ["bias=1.5"]) == Model(encoder=Layered(layers=9), bias=1.5)
    assert with_overrides(changed, ["encoder.kind=deep"]).encoder == Layered("deep", 9)
    with pytest.raises(ConfigError, match="unknown key 'encoder.units'"):
        with_overrides(Model(encoder=Listener(units=9)), ["encoder.kind=layered"])


def test_a_setting_that_was_added_later_is_part_of_the_digest_where_it_is_used():
    @dataclass(frozen=True)
    class Earlier:
        units: int = 3

    assert config_digest(Listener()) == config_digest(Earlier())
    assert config_digest(Listener(units=4)) == config_digest(Earlier(units=4))
    assert config_digest(Model()) != config_digest(Model(bias=0.5))
    assert config_digest(Model()) != config_digest(Model(encoder=Layered()))


def test_digests_of_the_first_settings_are_what_they_were():
    """Runs, stores and labels that exist hold these digests: a change would redo them all.

    Those of searches are taken of what null stands for; at that time it was attention alone, which
    validation still is.
    """
    first = SystemConfig()
    alone = resolved_without_ctc(first.decoding, first)
    assert alone == DecodingConfig(normalisation="gnmt", fusion=FusionConfig(ctc_weight=0.0))
    configs = (
        dataclasses.replace(first, decoding=alone),
        LabelConfig(normalisation="gnmt", fusion=alone.fusion),
        PrepareConfig(),
        ExportConfig(beam_width=4, num_hypotheses=1),
    )
    assert {type(config).__name__: config_digest(config)[:12] for config in configs} == {
        "SystemConfig": "85cdbe31de84",
        "LabelConfig": "22c663871502",
        "PrepareConfig": "f0a4a29657af",
        "ExportConfig": "22750e374bb5",
    }


@pytest.mark.parametrize("url", ["reader:5051", "http://a:1", "grpc://", "grpc://a", "grpc://a:1,"])
def test_an_input_service_needs_host_and_port(url):
    with pytest.raises(ConfigError, match="not like grpc://reader1:5051,reader2:5051"):
        from_dict(SystemConfig, {"training": {"input_service": url}})
