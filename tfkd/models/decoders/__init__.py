"""Encodings to token log-probabilities, one step at a time and by teacher forcing."""
