"""Exact k-best beam search over any step function; knows no audio, model or text.

Read `interface` for what goes in and comes out, `search` for the loop, `constraints` and `ranking`
for what steers it, `hypotheses` for the sets that it moves.
"""

from tfkd.beam_search.interface import BeamResult, Readout, Scorer, StepFn
from tfkd.beam_search.ranking import length_penalty
from tfkd.beam_search.search import beam_search

__all__ = ["BeamResult", "Readout", "Scorer", "StepFn", "beam_search", "length_penalty"]
