"""Whisper in Keras layers: read from a folder, run by tfkd's own beam search.

Read in this order: `folder` (what is read), `huggingface` and `ctranslate2` (the two layouts),
`tokens` (prompt and text), `model`, `encoder`, `decoder`, `search`.
"""
