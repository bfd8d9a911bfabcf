"""Recordings to waveforms at the model's rate: containers, decoding, resampling."""
