"""Trained runs, and decoding with them: the beam search over a recogniser, from audio to text."""
