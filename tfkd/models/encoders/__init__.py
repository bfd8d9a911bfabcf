"""Features to a shorter sequence of encodings."""
