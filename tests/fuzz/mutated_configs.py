"""Mutated run configs."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from mutation import mutate

from tfkd.config import RunConfig, load_run_config, to_dict, to_yaml

_BOMB = b"x: [&a [1, 2], " + b", ".join(
    b"&%c [%s]" % (name + 1, b", ".join([b"*%c" % name] * 9)) for name in range(97, 112)
)
_MERGES = b"x: [&a {k: 1}, " + b", ".join(
    b"&%c {<<: [%s]}" % (name + 1, b", ".join([b"*%c" % name] * 9)) for name in range(97, 112)
)
_WORDS = [
    b": ", b"\n", b"  ", b"- ", b"{", b"}", b"[", b"]", b"#", b"|", b">", b'"', b"'", b"\t",
    b"---\n", b"&a ", b"*a", b"<<: *a", b"? ", b"[" * 3000, b"{a: " * 2000, b"- " * 2000,
    b"9" * 5000, b"9" * 400, b"-1", b"1e999", b"1e308", b".nan", b".inf", b"0x10", b"1:30",
    b"2001-99-99", b"~", b"yes", b'"\\ud800"', b'"\\0"', b"!!float x", b"!!int ''",
    b"!!timestamp x", b"!!bool x", b"!!binary x", b"!!set {x}", b"!!python/object:os.system x",
    b"\xff\xfe", b"\xef\xbb\xbf", b"layers: 1000000000000",
    b"num_hypotheses: 1000000000000000000000", _BOMB + b"]\n", _MERGES + b"]\n", b"&r [*r]",
    b"&r {k: *r}", b"&r {<<: *r}",
]  # fmt: skip


@functools.cache
def _configs() -> list[bytes]:
    shipped = Path(__file__).parents[2] / "configs"
    texts = [path.read_bytes() for path in sorted(shipped.glob("*.yaml"))]
    return [*texts, to_yaml(RunConfig()).encode()]


def case(generator: np.random.Generator, scratch: Path) -> None:
    """Reads a run config, and writes what was read."""
    path = scratch / "config.yaml"
    path.write_bytes(mutate(_configs(), _WORDS, generator))
    config = load_run_config(path)
    to_yaml(config).encode()
    to_dict(config)
