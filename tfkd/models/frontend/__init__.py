"""Waveforms to features, inside the model."""
