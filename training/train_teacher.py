"""Trains a teacher with plain Keras `fit`: the heart of `tfkd train`, step by step.

It keeps the weights of the last epoch, or their averages. `tfkd train` keeps those of the best one,
and it alone reads `patience`, `passes_per_epoch`, `initial` and what concerns several machines.

python training/train_teacher.py configs/digits.yaml work/data/train work/data/valid work/teacher
"""

import sys
from pathlib import Path

import keras

import tfkd
from tfkd.decoding.run_writing import save_description, save_model
from tfkd.decoding.runs import MODEL
from tfkd.records import open_verified
from tfkd.text import train_tokenizer
from tfkd.training.optimizers import averaged_weights
from tfkd.training.trainable import compile_for

config, train_dir, valid_dir, out = sys.argv[1:]
system = tfkd.load_system_config(config, "teacher")
settings = system.training
train_store, valid_store = open_verified(train_dir), open_verified(valid_dir)

transcripts = [row["text"] for row in train_store.index if row["text"]]
tokenizer = train_tokenizer(transcripts, system.tokenizer)
keras.utils.set_random_seed(settings.seed)
model = tfkd.Recogniser(system.model, tokenizer.vocab_size, precision=settings.precision)
model.frontend.adapt(tfkd.audio_batches(train_store, 16).take(40))

objective = tfkd.objectives.make_objective(settings)
batches = tfkd.batches(
    train_store,
    tokenizer,
    objective,
    batch_size=settings.batch_size,
    speed_factors=settings.speed_factors,
    augmentation=settings.augmentation,
    seed=settings.seed,
)
compile_for(model, settings, total_steps=settings.epochs * len(batches), objective=objective)
greedy = tfkd.Decoder(model, tokenizer, tfkd.config.DecodingConfig(beam_width=1, max_tokens=100))
error_rate = tfkd.callbacks.ValidationErrorRate(greedy, valid_store, settings.batch_size)
model.fit(batches, epochs=settings.epochs, callbacks=[error_rate])

save_description(Path(out), system, tokenizer)
with averaged_weights(model):  # what was validated, if `average_share` is set
    save_model(model, Path(out) / MODEL)
