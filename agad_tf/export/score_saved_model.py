"""Scores a NumPy array with an exported SavedModel: `python score_saved_model.py MODEL IN.npy OUT.npy`.

A program of its own that needs TensorFlow and NumPy and none of this library: what a consumer of the export
would write, and how the demo proves that the export stands alone.
"""

import sys

import numpy as np
import tensorflow as tf


def main(model_path: str, input_path: str, output_path: str) -> None:
    """Writes the scores of the uint8 images in `input_path` to `output_path`."""
    score = tf.saved_model.load(model_path).signatures["serving_default"]
    images = np.load(input_path, allow_pickle=False)
    parts = [
        score(images=tf.constant(images[start : start + 256]))["score"].numpy()
        for start in range(0, len(images), 256)
    ]
    if "agad_tf" in sys.modules:
        raise SystemExit("agad_tf was imported: this proves nothing about the export")
    np.save(output_path, np.concatenate(parts))


if __name__ == "__main__":
    main(*sys.argv[1:])
