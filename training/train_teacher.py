"""Trains a teacher with plain Keras `fit`: the recipe of `tfkd train` in plain sight.

python training/train_teacher.py configs/digits.yaml work/data/train work/data/valid work/teacher
"""

import sys
from pathlib import Path

from tfkd.config import DecodingConfig, load_system_config
from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import Decoder
from tfkd.decoding.runs import MODEL, save_description, save_model
from tfkd.models.recogniser import Recogniser
from tfkd.records import open_verified
from tfkd.text import train_tokenizer
from tfkd.training.batches import TrainingEpochs
from tfkd.training.callbacks import ValidationErrorRate
from tfkd.training.trainable import compile_for

config, train_dir, valid_dir, out = sys.argv[1:]
system = load_system_config(config, "teacher")
settings = system.training
train_store, valid_store = open_verified(train_dir), open_verified(valid_dir)

tokenizer = train_tokenizer([row["text"] for row in train_store.index], system.tokenizer)
model = Recogniser(system.model, tokenizer.vocab_size)
model.frontend.adapt(audio_batches(train_store, 16).take(40))
epochs = TrainingEpochs(train_store, tokenizer, settings)
compile_for(model, settings, epochs.total_batches)

greedy = Decoder(model, tokenizer, DecodingConfig(beam_width=1, max_tokens=100))
error_rate = ValidationErrorRate(greedy, valid_store, settings.batch_size)
for epoch in range(settings.epochs):
    model.fit(
        epochs.batches(epoch),
        initial_epoch=epoch,
        epochs=epoch + 1,
        shuffle=False,
        callbacks=[error_rate],
    )
save_description(Path(out), system, tokenizer)
save_model(model, Path(out) / MODEL)
