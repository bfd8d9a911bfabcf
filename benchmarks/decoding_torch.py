"""The baseline: batched beam search over the same recogniser, written by hand in PyTorch.

Keys are computed once, and encodings are never copied per hypothesis.
"""

from __future__ import annotations

import timed_process
import torch
from sizes import BATCH, BEAM_WIDTH, EOS_ID, FRAMES, MELS, SIZES, SOS_ID, TOKENS
from torch.nn.functional import log_softmax
from training_torch import TorchRecogniser


def attend(
    model: TorchRecogniser, hidden: torch.Tensor, keys: torch.Tensor, encoded: torch.Tensor
) -> torch.Tensor:
    """The context [B * W, D] of hidden [B * W, H]."""
    query = model.query(hidden).view(len(keys), -1, 1, keys.shape[-1])
    energies = model.energy(torch.tanh(keys.unsqueeze(1) + query)).squeeze(-1)
    return torch.bmm(torch.softmax(energies, -1), encoded).flatten(0, 1)


@torch.inference_mode()
def search(model: TorchRecogniser, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The BEAM_WIDTH best sequences of TOKENS tokens [B, W, U] and their scores [B, W]."""
    encoded = model.encode(features)
    keys, batch = model.keys(encoded), len(features)
    rows = batch * BEAM_WIDTH
    hidden = cell = encoded.new_zeros(rows, model.sizes.decoder_units)
    context = encoded.new_zeros(rows, encoded.shape[-1])
    scores = torch.full((batch, BEAM_WIDTH), -1e30)
    scores[:, 0] = 0
    tokens = torch.full((rows,), SOS_ID)
    history = torch.zeros(rows, 0, dtype=torch.long)
    first = (torch.arange(batch) * BEAM_WIDTH).unsqueeze(1)
    for _ in range(TOKENS):
        inputs = torch.cat([model.embedding(tokens), context], -1)
        hidden, cell = model.cell(inputs, (hidden, cell))
        context = attend(model, hidden, keys, encoded)
        log_probs = log_softmax(model.output(torch.cat([hidden, context], -1)), -1)
        log_probs[:, EOS_ID] = -1e30
        vocabulary = log_probs.shape[-1]
        totals = scores.unsqueeze(-1) + log_probs.view(batch, BEAM_WIDTH, vocabulary)
        scores, best = totals.flatten(1).topk(BEAM_WIDTH)
        parents = (first + best // vocabulary).flatten()
        tokens = (best % vocabulary).flatten()
        hidden, cell, context = hidden[parents], cell[parents], context[parents]
        history = torch.cat([history[parents], tokens.unsqueeze(1)], 1)
    return history.view(batch, BEAM_WIDTH, TOKENS), scores


def main() -> None:
    options, base_mb = timed_process.arguments(), timed_process.resident_mb()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if torch.cuda.is_available():
        torch.set_default_device("cuda")
    model = TorchRecogniser(SIZES[options.size], options.vocabulary).eval()
    features = torch.randn(BATCH, FRAMES, MELS)

    def decode() -> None:
        search(model, features)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    timed_process.report(decode, options.repeats, base_mb)


if __name__ == "__main__":
    main()
