"""The parts of a recogniser, as Keras layers with explicit state."""
