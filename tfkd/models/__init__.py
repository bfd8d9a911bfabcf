"""The recogniser: frontend, encoder and decoder, from waveform to token log-probabilities."""
