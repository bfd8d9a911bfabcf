"""Language models that join the beam search."""
