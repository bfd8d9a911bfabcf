"""A recogniser and the beam search together: trained runs, transcripts, k best."""
