"""Normalises transcripts, and converts text to token ids and back."""

from tfkd.text.normalisation import extra_characters_of, normalise
from tfkd.text.tags import without_tags
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
    tokenizer_files,
    train_tokenizer,
    vocab_size_of,
)
from tfkd.text.transcripts import NormalisedTranscript, transcript_of

__all__ = [
    "EOS_ID",
    "FIRST_PIECE_ID",
    "PAD_ID",
    "SOS_ID",
    "UNK_ID",
    "CharacterTokenizer",
    "NormalisedTranscript",
    "SentencePieceTokenizer",
    "Tokenizer",
    "extra_characters_of",
    "join_pieces",
    "load_tokenizer",
    "normalise",
    "tokenizer_files",
    "train_tokenizer",
    "transcript_of",
    "vocab_size_of",
    "without_tags",
]
