"""Error rates of recognisers in every form, and the choice of decoding settings by them."""
