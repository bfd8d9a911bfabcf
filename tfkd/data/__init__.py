"""Prepares corpora as stores, and makes batches of audio from stores."""
