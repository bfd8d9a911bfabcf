"""Every operation of training and decoding has a kernel for GPUs, or is one that needs none.

No GPU is needed: the table of kernels is in TensorFlow's library, which registers those of CUDA in
the builds that hold them.
"""

from __future__ import annotations

import dataclasses

import pytest
import tensorflow as tf
from tensorflow.python.framework.kernels import get_registered_kernels_for_op

from tfkd.config import DecodingConfig, SystemConfig
from tfkd.decoding.decoder import Decoder
from tfkd.models.recogniser import Recogniser
from tfkd.text import CharacterTokenizer
from tfkd.training.batches import TrainingEpochs
from tfkd.training.trainable import compile_for

TOKENIZER = CharacterTokenizer(" abdeikmosu")
# The runtime itself does these: it inlines functions, and puts arguments where they are used.
OF_THE_RUNTIME = {"Placeholder"}


def kernels_of(op: str) -> set[str]:
    return {kernel.device_type for kernel in get_registered_kernels_for_op(op).kernel}


pytestmark = pytest.mark.skipif(
    "GPU" not in kernels_of("MatMul"), reason="this build of TensorFlow has no kernels for GPUs"
)


def on_cpu_alone(function: tf.types.experimental.ConcreteFunction) -> set[str]:
    """The operations of a graph, functions included, that a GPU cannot run."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    names = {each.signature.name for each in graph.library.function}
    ops = {node.op for node in nodes} - names - OF_THE_RUNTIME
    # A kernel of the device DEFAULT is one of every device.
    return {op for op in ops if not {"GPU", "DEFAULT"} & kernels_of(op)}


def test_an_operation_of_the_cpu_alone_is_found():
    function = tf.function(lambda x: tf.strings.length(tf.strings.as_string(x) + "a"))
    assert on_cpu_alone(function.get_concrete_function(tf.zeros(2)))


@pytest.mark.parametrize("attention", ["additive", "location"])
def test_a_search_with_ctc(tiny_system, attention):
    config = DecodingConfig(
        beam_width=2,
        max_tokens=8,
        no_repeat_ngram=3,
        coverage_penalty=0.1,
        max_tokens_per_second=10.0,
        fusion=dataclasses.replace(DecodingConfig().fusion, ctc_weight=0.3),
    )
    decoder = Decoder(model_of(tiny_system, attention), TOKENIZER, config)
    assert on_cpu_alone(decoder.decode.get_concrete_function()) == set()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("attention", ["additive", "location"])
def test_a_training_step(tiny_system, prepared, attention, precision):
    training = dataclasses.replace(tiny_system.training, ctc_weight=0.3, precision=precision)
    epochs = TrainingEpochs(prepared["train"], TOKENIZER, training)
    batch = next(iter(epochs.batches(0)))
    del batch["utterance_id"]
    model = model_of(tiny_system, attention, precision)
    compile_for(model, training, 10)
    step = tf.function(model.train_step).get_concrete_function(batch)
    assert on_cpu_alone(step) == set()


def model_of(system: SystemConfig, attention: str, precision: str = "float32") -> Recogniser:
    config = dataclasses.replace(
        system.model,
        attention=dataclasses.replace(system.model.attention, kind=attention),
        spec_augment=dataclasses.replace(
            system.model.spec_augment, frequency_masks=1, time_masks=1
        ),
    )
    return Recogniser(config, TOKENIZER.vocab_size, precision=precision)
