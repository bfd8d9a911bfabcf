"""Exact k-best beam search over any step function; knows no audio, model or text.

Read `interface` for arguments and results, `search` for the loop, `constraints` and `ranking` for
the rules that steer it, `hypotheses` for the sets that it moves, `backpointers` for the way back
from an end to its tokens.
"""

from tfkd.beam_search.interface import BeamResult, Readout, Scorer, StepFn
from tfkd.beam_search.ranking import length_penalty
from tfkd.beam_search.search import beam_search

__all__ = ["BeamResult", "Readout", "Scorer", "StepFn", "beam_search", "length_penalty"]
