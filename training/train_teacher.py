"""Trains a teacher with plain Keras `fit`: the recipe of `tfkd train` in plain sight.

python training/train_teacher.py configs/digits.yaml work/data/train work/data/valid work/teacher
"""

import sys
from pathlib import Path

from tfkd.config import DecodingConfig, load_system_config
from tfkd.decoding.decoder import Decoder
from tfkd.decoding.runs import MODEL, save_description, save_model
from tfkd.records import open_verified
from tfkd.text import train_tokenizer
from tfkd.training.batches import TrainingEpochs
from tfkd.training.callbacks import ValidationErrorRate
from tfkd.training.loop import feature_statistics
from tfkd.training.trainable import TrainableRecogniser

config, train_dir, valid_dir, out = sys.argv[1:]
system = load_system_config(config, "teacher")
settings = system.training
train_store, valid_store = open_verified(train_dir), open_verified(valid_dir)

tokenizer = train_tokenizer([row["text"] for row in train_store.index], system.tokenizer)
model = TrainableRecogniser(system.model, tokenizer.vocab_size)
model.frontend.adapt(*feature_statistics(model.frontend, train_store))
epochs = TrainingEpochs(train_store, tokenizer, settings)
model.configure(settings, epochs.total_batches)

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
