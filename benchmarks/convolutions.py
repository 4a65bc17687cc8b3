"""The convolutions of the backbones against the Keras layers they stand for, in one process.

    python benchmarks/convolutions.py --out benchmarks/results/convolutions.json

For layers of the naive generator and of UNet++ at 32×32: processor seconds of forward and of forward with all
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

from agad_tf.layers import DownConv, HalveConv, SameConv, UpConv, WidenConv

BATCH = 128
STRIDE_2 = {"kernel_size": 4, "strides": 2, "padding": "same"}
HALVE = {"kernel_size": 3, "strides": 2, "padding": "same"}
WIDEN = {"kernel_size": 2, "strides": 2}
SAME = {"kernel_size": 3, "padding": "same"}
# name, our layer, Keras' layer and its geometry, input (side, channels), filters
LAYERS = [
    ("down 32 to 16, 1 to 64", DownConv, keras.layers.Conv2D, STRIDE_2, (32, 1), 64),
    ("down 16 to 8, 64 to 128", DownConv, keras.layers.Conv2D, STRIDE_2, (16, 64), 128),
    ("down 8 to 4, 128 to 256", DownConv, keras.layers.Conv2D, STRIDE_2, (8, 128), 256),
    ("halve 8 to 4, 64 to 128", HalveConv, keras.layers.Conv2D, HALVE, (8, 64), 128),
    ("halve 2 to 1, 256 to 512", HalveConv, keras.layers.Conv2D, HALVE, (2, 256), 512),
    ("up 4 to 8, 256 to 128", UpConv, keras.layers.Conv2DTranspose, STRIDE_2, (4, 256), 128),
    ("up 8 to 16, 128 to 64", UpConv, keras.layers.Conv2DTranspose, STRIDE_2, (8, 128), 64),
    ("up 16 to 32, 64 to 1", UpConv, keras.layers.Conv2DTranspose, STRIDE_2, (16, 64), 1),
    ("same 32, 32 to 32", SameConv, keras.layers.Conv2D, SAME, (32, 32), 32),
    ("same 8, 128 to 128", SameConv, keras.layers.Conv2D, SAME, (8, 128), 128),
    ("same 4, 256 to 256", SameConv, keras.layers.Conv2D, SAME, (4, 256), 256),
    ("same 2, 512 to 512", SameConv, keras.layers.Conv2D, SAME, (2, 512), 512),
    ("widen 4 to 8, 256 to 128", WidenConv, keras.layers.Conv2DTranspose, WIDEN, (4, 256), 128),
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
    for name, ours, theirs, geometry, (side, channels), filters in LAYERS:
        x = tf.random.normal((BATCH, side, side, channels))
        reference = theirs(filters, use_bias=False, **geometry)
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
