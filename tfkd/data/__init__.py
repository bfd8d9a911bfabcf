"""Corpora to prepared stores, and stores to batches of audio."""
