"""What a training takes where nothing was asked for: enough steps for few images, and networks for a CPU."""

from __future__ import annotations

from collections.abc import Collection

import tensorflow as tf

from agad_tf.data.batches.quota import anomalies_per_batch
from agad_tf.data.splits.split import Split
from agad_tf.models.inputs import fitting_batch_size
from agad_tf.training.configuration import Configuration

CHOSEN = {
    "agad": ("epochs", "batch_size", "min_anomalies", "backbone"),
    "aa_bigan": ("epochs",),
    "aa_bigan_neighbours": ("epochs",),
}
"""Settings by detector that may depend on the data."""
LEAST_STEPS = 150
"""Quality was seen to rise until 100 to 200 steps (docs/results/stability.md)."""
FEW_NORMALS = 1000
"""With fewer normals in training a set counts as small."""
SMALL_BATCH, SMALL_MINIMUM = 32, 4
"""For small sets: the paper's proportion of 32 anomalies in a batch of 256."""


def choose(configuration: Configuration, free: Collection[str], split: Split, images: bool) -> str | None:
    """Sets what was not asked for by the number of samples and the device.

    Args:
        configuration: of the run; changed in place.
        free: names of settings that may be chosen: those that nobody gave.
        split: of the run.
        images: False for a table.

    Returns:
        What was chosen and why, in one line; None where the defaults stay.
    """
    free = set(CHOSEN.get(configuration["detector"], ())) & set(free)
    fit, model = configuration["fit"], configuration["model"]
    normals, anomalies = len(split.train_normal), len(split.train_anomaly)
    chosen, on_cpu = [], not tf.config.list_physical_devices("GPU")
    small = images and normals < FEW_NORMALS
    if small and {"batch_size", "min_anomalies"} <= free:
        fit["batch_size"], fit["min_anomalies"] = SMALL_BATCH, SMALL_MINIMUM
        chosen.append(f"batches of {SMALL_BATCH}")
    if small and on_cpu and "backbone" in free:
        model["backbone"] = "encoder_decoder"
        chosen.append("backbone encoder_decoder, the fastest on a CPU")
    if "epochs" in free:
        least = -(-LEAST_STEPS // steps_of(configuration, normals, anomalies))
        if fit["epochs"] < least:
            fit["epochs"] = least
            chosen.append(f"{least} epochs, for at least {LEAST_STEPS} steps")
    if not chosen:
        return None
    return f"chosen for {normals} normals: {'; '.join(chosen)} (--epochs, --batch-size, --backbone change it)"


def steps_of(configuration: Configuration, normals: int, anomalies: int) -> int:
    """Steps of an epoch, at least 1."""
    fit = configuration["fit"]
    size = fitting_batch_size(normals, anomalies, fit["batch_size"], fit["min_anomalies"])
    of_normals = size - anomalies_per_batch(normals, anomalies, size, fit["min_anomalies"])
    return max(1, -(-normals // max(1, of_normals)))
