"""Transcripts in one form, and the tokenizers that spell them."""

from tfkd.text.normalisation import extra_characters_of, normalise
from tfkd.text.tokenizers import (
    EOS_ID,
    FIRST_PIECE_ID,
    PAD_ID,
    SOS_ID,
    UNK_ID,
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    join_pieces,
    load_tokenizer,
    train_tokenizer,
    vocab_size_of,
)

__all__ = [
    "EOS_ID",
    "FIRST_PIECE_ID",
    "PAD_ID",
    "SOS_ID",
    "UNK_ID",
    "CharacterTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "extra_characters_of",
    "join_pieces",
    "load_tokenizer",
    "normalise",
    "train_tokenizer",
    "vocab_size_of",
]
