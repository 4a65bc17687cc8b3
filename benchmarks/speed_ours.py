"""Our half of `training_speed.py`: a process that makes models and measures their steps when asked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flops
import keras
import numpy as np
import tensorflow as tf
from speed_worker import serve

import agad_tf

PEAK_SIDE = 2048  # of the matrices whose product is the machine's peak


def samples(kind: str, batch: int, anomalies: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Random images in the model's range, anomalies last, and their labels."""
    x = np.random.default_rng(0).uniform(size=(batch, side, side, 1)).astype("float32")
    return (x if kind == "aa_bigan" else 2 * x - 1), np.repeat([0, 1], [batch - anomalies, anomalies])


def detector(kind: str, side: int = 32, precision: str = "float32", xla: bool = False, seed: int = 1):
    """A compiled detector with the defaults of `compile()`, with weights drawn from a seed."""
    keras.utils.set_random_seed(seed)
    if kind == "aa_bigan":
        model = agad_tf.AABiGAN((side, side, 1), backbone="dcgan", dtype=precision)
    else:
        model = agad_tf.AGAD((side, side, 1), backbone=kind, dtype=precision)
    model.compile(jit_compile=xla)
    model.average_decay.assign(0.99)
    return model


def networks(model) -> list:
    """The networks that train, in the order `torch_networks` has them."""
    if isinstance(model, agad_tf.AABiGAN):
        return [model.encoder, model.generator, model.discriminator, model.reconstruction_discriminator]
    return [model.generator, model.discriminator]


def step_flops(model, batch: int) -> int:
    """Of one training step on a batch."""
    shape = model.sample_shape
    if not isinstance(model, agad_tf.AABiGAN):
        parts = (flops.forward(network, shape) for network in networks(model))
        return flops.agad_step(*parts, batch)
    joint, pair = model.discriminator, model.reconstruction_discriminator
    features = int(joint.trunk(tf.zeros((1, *shape))).shape[-1])
    return flops.aa_bigan_step(
        flops.forward(model.encoder, shape),
        flops.forward(model.generator, (model.latent_dim,)),
        flops.forward(joint.trunk, shape),
        flops.forward(joint.code, (model.latent_dim,)),
        flops.forward(joint.head, (features + joint.code.units,)),
        flops.forward(pair.head, (2 * features,)),
        batch,
    )


def make(what: str, **job):
    """See `speed_worker.serve`."""
    return MAKERS[what](**job)


def make_step(
    kind: str, batch: int, anomalies: int, side: int = 32, precision="float32", xla=False, proof=None
):
    """The compiled train_step; `proof` is a file for what the other side compares itself with."""
    model = detector(kind, side, precision, xla)
    x, y = (tf.constant(part) for part in samples(kind, batch, anomalies, side))
    said = {
        "parameters": [
            int(sum(np.prod(v.shape) for v in net.trainable_variables)) for net in networks(model)
        ],
        "flops": step_flops(model, batch),
    }
    if proof:
        write_proof(model, x, y, proof)
    # As `fit` compiles it.
    step = tf.function(model.train_step, autograph=False, jit_compile=model.jit_compile)

    def run():
        return float(step((x, y))["loss_generator"])

    return run, said


def write_proof(model, x, y, path: str) -> None:
    """Weights, one forward pass in inference mode, and the losses of the first step."""
    content = {"x": x.numpy(), "y": y.numpy()}
    for index, network in enumerate(networks(model)):
        for place, variable in enumerate(network.trainable_variables):
            content[f"weights_{index}_{place:03d}"] = variable.numpy()
    if isinstance(model, agad_tf.AABiGAN):
        code = model.encoder(x)
        made = model.generator(code)
        outputs = [code, made, model.discriminator((x, code)), model.reconstruction_discriminator((x, made))]
        content["z"] = model._noise(code).numpy()
    else:
        made = model.generator(x)
        outputs = [made, model.discriminator(x)[0]]
    content |= {f"output_{index}": output.numpy() for index, output in enumerate(outputs)}
    clone = detector("aa_bigan" if "z" in content else model.backbone)
    logs = tf.function(clone.train_step, autograph=False)((x, y))
    content |= {name: logs[name].numpy() for name in ("loss_generator", "loss_discriminator")}
    np.savez(path, **content)


def make_score(kind: str, batch: int):
    """The score of a batch, as a compiled call of the model."""
    model = detector(kind)
    x = tf.constant(samples(kind, batch, 0)[0])
    score = tf.function(model.call, autograph=False)
    return lambda: score(x).numpy(), {}


def make_matmul():
    """The product of two matrices: what this machine can do at best."""
    a = tf.random.normal((PEAK_SIDE, PEAK_SIDE))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)[0]))
    return lambda: float(product()), {"flops": 2 * PEAK_SIDE**3}


def make_part(kind: str, part: str, batch: int, anomalies: int):
    """One part of a step and all before it: "input", "forward", "backward", "update" (the whole step)."""
    x, y = samples(kind, batch, anomalies)
    model = detector(kind)
    low, high = model.preprocess.value_range
    x = np.round((x - low) / (high - low) * 255).astype(np.uint8)
    if part == "input":
        stream = agad_tf.quota_batches(np.tile(x[y == 0], (8, 1, 1, 1)), x[y == 1], batch, anomalies).stream()
        iterator = iter(stream)
        return lambda: next(iterator), {}
    data = tf.constant(x), tf.constant(y)
    if part == "update":
        step = tf.function(model.train_step, autograph=False)
        return lambda: float(step(data)["loss_generator"]), {}

    @tf.function(autograph=False)
    def half(data):
        x, y = model.unpack(data)
        with tf.GradientTape(persistent=True) as tape:
            passed = model._pass(model.preprocess(x), y)
            losses = model._generator_loss(passed)[0], model._discriminator_loss(passed)[0]
        if part == "forward":
            return losses
        return losses, [
            tape.gradient(loss, variables)
            for loss, variables in zip(
                losses, (model.generator_variables(), model.discriminator_variables()), strict=True
            )
        ]

    def run():
        result = half(data)
        return float(result[0] if part == "forward" else result[0][0])

    return run, {}


def make_fit(kind: str, images: int, batch: int, anomalies: int):
    """A step on the next batch drawn from so many uint8 images in memory."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (images, 32, 32, 1), np.uint8)
    model = detector(kind)
    iterator = iter(agad_tf.quota_batches(x[anomalies:], x[:anomalies], batch, anomalies).stream())
    step = model.step_function()
    return lambda: float(step(iterator)["loss_generator"]), {}


MAKERS = {
    "step": make_step,
    "score": make_score,
    "matmul": make_matmul,
    "part": make_part,
    "fit": make_fit,
}


if __name__ == "__main__":
    threads = int(os.environ["AGAD_TF_BENCH_THREADS"])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    serve(make)
