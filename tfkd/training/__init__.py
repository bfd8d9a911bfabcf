"""Training by Keras `fit`: the loop, its batches, callbacks, checkpoints, run folders."""
