"""Mutated ARPA files, plain and compressed."""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

import numpy as np
from mutation import mutate

from tfkd.language_models import load_language_model
from tfkd.text import CharacterTokenizer

_ARPA = """\\data\\
ngram 1=6
ngram 2=4
ngram 3=2

\\1-grams:
-99 <s> -0.3
-0.7 </s>
-1.2 <unk>
-0.5 a -0.25
-0.6 b -0.125
-0.9 \u2581 -0.2

\\2-grams:
-0.3 <s> a -0.1
-0.4 a b -0.1
-0.5 b a
-0.2 b </s>

\\3-grams:
-0.1 <s> a b
-0.15 a b </s>

\\end\\
"""
_WORDS = [
    b"\n", b"\t", b" ", b"\\data\\\n", b"\\end\\\n", b"\\3-grams:\n", b"\\0-grams:\n",
    b"\\9-grams:\n", b"ngram 1=1\n", b"ngram 4=0\n", b"ngram 99999999=0\n", b"=", b"9" * 5000,
    b"-inf", b"nan", b"1e999", b"-1e-999", b"-", b"<s>", b"</s>", b"<unk>", b"a b ", b"\r\n",
    b"mmap lm http://kheafield.com/code", b"ngram 17=0\n", b" |", b"<space>", b"\n" * 20_000,
    b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8", "\u0663".encode(), b"\x1f\x8b\x08\x00",
]  # fmt: skip


@functools.cache
def _files(is_compressed: bool) -> list[bytes]:
    text = _ARPA.encode()
    return [gzip.compress(text, mtime=0)] if is_compressed else [text]


def case(generator: np.random.Generator, scratch: Path) -> None:
    """Reads a model: damaged text, damaged text that is well compressed, or a damaged gzip file."""
    form = generator.integers(4)
    path = scratch / ("model.arpa.gz" if form >= 2 else "model.arpa")
    data = mutate(_files(form == 3), _WORDS, generator)
    path.write_bytes(gzip.compress(data, compresslevel=1) if form == 2 else data)
    load_language_model(path, CharacterTokenizer(" ab"))
