"""The strided convolutions of the naive backbone against the Keras layers they stand for, in one process.

    python benchmarks/convolutions.py --out benchmarks/results/convolutions.json

For each layer of the naive generator that has stride 2: processor seconds of forward and of forward with all
gradients, Keras' layer and ours in turn, and the median ratio. Processor seconds, because the machine may be
shared; ratios, because its speed may drift.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import keras
import tensorflow as tf

from agad_tf.layers import DownConv, UpConv

BATCH = 256
# name, our layer, Keras' layer, input (side, channels), filters
LAYERS = [
    ("down 32 to 16, 1 to 64", DownConv, keras.layers.Conv2D, (32, 1), 64),
    ("down 16 to 8, 64 to 128", DownConv, keras.layers.Conv2D, (16, 64), 128),
    ("down 8 to 4, 128 to 256", DownConv, keras.layers.Conv2D, (8, 128), 256),
    ("up 4 to 8, 256 to 128", UpConv, keras.layers.Conv2DTranspose, (4, 256), 128),
    ("up 8 to 16, 128 to 64", UpConv, keras.layers.Conv2DTranspose, (8, 128), 64),
    ("up 16 to 32, 64 to 1", UpConv, keras.layers.Conv2DTranspose, (16, 64), 1),
]


def functions(layer, x):
    """Forward, and forward with the gradients of input and weights."""
    layer.build(x.shape)

    @tf.function
    def forward():
        return layer(x)

    @tf.function
    def with_gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, [x, *[weight.value for weight in layer.weights]])

    return {"forward": forward, "forward and gradients": with_gradients}


def seconds(function) -> float:
    """Processor seconds of one call."""
    started = time.process_time()
    function()
    return time.process_time() - started


def main() -> None:
    """Measures and prints every layer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="alternating measurements of each")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name, ours, theirs, (side, channels), filters in LAYERS:
        x = tf.random.normal((BATCH, side, side, channels))
        reference = theirs(filters, 4, strides=2, padding="same", use_bias=False)
        pairs = zip(
            functions(ours(filters, use_bias=False), x).items(),
            functions(reference, x).values(),
            strict=True,
        )
        for (what, fast), plain in pairs:
            fast(), plain()  # traced and warm
            times = [(seconds(fast), seconds(plain)) for _ in range(arguments.rounds)]
            rows.append(
                {
                    "layer": name,
                    "what": what,
                    "ours_s": round(statistics.median(t[0] for t in times), 4),
                    "keras_s": round(statistics.median(t[1] for t in times), 4),
                    "ratio": round(statistics.median(a / b for a, b in times), 3),
                }
            )
            print(rows[-1], flush=True)
    result = {
        "batch": BATCH,
        "machine": f"{platform.machine()}, CPU only",
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "rows": rows,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
