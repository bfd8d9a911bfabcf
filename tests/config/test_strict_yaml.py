"""YAML that PyYAML would misread silently, never finish, or refuse with an error of its own."""

from __future__ import annotations

import pytest

from tfkd.config.strict_yaml import parse_yaml, read_yaml
from tfkd.errors import ConfigError

# Each level names the one before it nine times: 9^15 values in half a kilobyte.
LEVELS = "bcdefghijklmnop"
BEFORE = "abcdefghijklmno"
BOMB = "[&a [1], " + ", ".join(
    f"&{name} [{', '.join([f'*{before}'] * 9)}]"
    for name, before in zip(LEVELS, BEFORE, strict=True)
)
MERGES = "[&a {k: 1}, " + ", ".join(
    f"&{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}"
    for name, before in zip(LEVELS, BEFORE, strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: [1, 2.5, yes, ~, '']", {"a": [1, 2.5, True, None, ""]}),
        ("a: ['1:30', '0256', 0, 00.5, 1_000, 0x10]", {"a": ["1:30", "0256", 0, 0.5, 1000, 16]}),
        ("a: &x {k: 1}\nb: *x", {"a": {"k": 1}, "b": {"k": 1}}),
        ("a: &x {k: 1, m: 2}\nb: {<<: *x, k: 3}", {"a": {"k": 1, "m": 2}, "b": {"k": 3, "m": 2}}),
    ],
)
def test_plain_yaml_and_aliases_are_read(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is given twice"),
        (BOMB + "]", "more than 10000 values"),
        (MERGES + "]", "more than 10000 values"),
        ("&a [*a]", "or for itself"),
        ("&a {<<: *a}", "or for itself"),
        ("[" * 5000, "nested too deeply"),
        ("[" * 51 + "]" * 51, "nested too deeply"),
        ("{a: " * 51 + "1" + "}" * 51, "nested too deeply"),
        ("a: 1\nb: 2020-01-01", "line 2: '2020-01-01' is no setting's value"),
        ("a: " + "9" * 5000, "line 1: a number of 5000 digits"),
        ("a: 0x" + "f" * 5000, "a number of 5002 digits"),
        ("a: 2001-99-99", "no setting's value"),
        ("a: !!int ''", "not valid YAML"),
        ("units: 1:30:00", "line 1: '1:30:00' would be a number to the base of 60"),
        ("a: 1\nb: -1:30.5", "line 2: '-1:30.5' would be a number to the base of 60"),
        ("a: 0256", "'0256' would be octal .leave out the leading zero"),
        ("a: [1, -0_10]", "'-0_10' would be octal"),
        ("a: !!timestamp x", "no setting's value"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!python/object:os.system x", "no setting's value"),
        ("a: [", "not valid YAML"),
        (r'a: "\ud800"', r"'\\ud800' holds a character that cannot be written"),
        (r'a: "\0"', "holds a character that cannot be written"),
    ],
)
def test_what_is_ambiguous_or_endless_is_refused(text, message):
    with pytest.raises(ConfigError, match=message) as raised:
        parse_yaml(text)
    str(raised.value).encode()
    assert raised.value.remedy


def test_a_file_that_is_far_too_large_is_not_parsed(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_text("a: b\n" * 100_000)
    with pytest.raises(ConfigError, match="large.yaml: is no config: it has more than"):
        read_yaml(path)
