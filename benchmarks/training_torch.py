"""The baseline: one training step of the same recogniser in PyTorch, with its fused nn.LSTM."""

from __future__ import annotations

import timed_process
import torch
from sizes import BATCH, FRAMES, MELS, SIZES, SOS_ID, TOKENS, VOCABULARY, Sizes
from torch import nn


def join_pairs(frames: torch.Tensor) -> torch.Tensor:
    batch, steps, width = frames.shape
    return frames[:, : steps - steps % 2].reshape(batch, steps // 2, 2 * width)


class TorchRecogniser(nn.Module):
    def __init__(self, sizes: Sizes, vocabulary: int) -> None:
        super().__init__()
        self.sizes = sizes
        width, layers = MELS, []
        for joins in sizes.joins:
            layers.append(
                nn.LSTM(width * 2**joins, sizes.units, batch_first=True, bidirectional=True)
            )
            width = 2 * sizes.units
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in layers)
        self.embedding = nn.Embedding(vocabulary, sizes.embedding_units)
        self.cell = nn.LSTMCell(sizes.embedding_units + width, sizes.decoder_units)
        self.keys = nn.Linear(width, sizes.attention_units)
        self.query = nn.Linear(sizes.decoder_units, sizes.attention_units, bias=False)
        self.energy = nn.Linear(sizes.attention_units, 1, bias=False)
        self.output = nn.Linear(sizes.decoder_units + width, vocabulary)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        for joins, layer, norm in zip(self.sizes.joins, self.layers, self.norms, strict=True):
            for _ in range(joins):
                frames = join_pairs(frames)
            frames = norm(layer(frames)[0])
        return frames

    def forward(self, frames: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        encoded = self.encode(frames)
        keys, embedded = self.keys(encoded), self.embedding(previous)
        hidden = cell = encoded.new_zeros(len(encoded), self.sizes.decoder_units)
        context = encoded.new_zeros(len(encoded), encoded.shape[-1])
        outputs = []
        for step in range(previous.shape[1]):
            hidden, cell = self.cell(torch.cat([embedded[:, step], context], -1), (hidden, cell))
            activation = torch.tanh(keys + self.query(hidden).unsqueeze(1))
            alignment = torch.softmax(self.energy(activation).squeeze(-1), -1)
            context = torch.bmm(alignment.unsqueeze(1), encoded).squeeze(1)
            outputs.append(torch.cat([hidden, context], -1))
        return self.output(torch.stack(outputs, 1))


def main() -> None:
    options, base_mb = timed_process.arguments(), timed_process.resident_mb()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if torch.cuda.is_available():
        torch.set_default_device("cuda")
    model = TorchRecogniser(SIZES[options.size], VOCABULARY)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    frames = torch.randn(BATCH, FRAMES, MELS)
    token_ids = torch.randint(4, VOCABULARY, (BATCH, TOKENS))
    first = torch.full((BATCH, 1), SOS_ID)
    previous = torch.cat([first, token_ids[:, :-1]], 1)

    def step() -> None:
        optimizer.zero_grad()
        logits = model(frames, previous)
        nn.functional.cross_entropy(logits.flatten(0, 1), token_ids.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    timed_process.report(step, options.repeats, base_mb)


if __name__ == "__main__":
    main()
