"""One process of a training on several workers: `python worker.py OUT`; TF_CONFIG says which one.

Writes OUT/worker-<index>.npz with everything that training changed and the logs. Without TF_CONFIG it trains
alone.
"""

import json
import os
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""


def main(out: Path) -> None:
    from agad_tf.training import Checkpoints
    from agad_tf.training.hardware import choose_strategy

    strategy = choose_strategy()  # before anything else touches TensorFlow

    import keras
    import numpy as np

    from agad_tf import AABiGAN
    from agad_tf.models.updates import training_variables

    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = AABiGAN((5,), latent_dim=4, dtype="float64", score="reconstruction")
        model.compile(
            generator_optimizer=keras.optimizers.SGD(1e-2), discriminator_optimizer=keras.optimizers.SGD(1e-2)
        )
    y = np.repeat([0, 1], [34, 6])
    x = np.random.default_rng(0).normal(size=(40, 5)).astype("float32") + y[:, None].astype("float32")
    # 5 steps of 10, two of them anomalies; validation, and a checkpoint after each epoch.
    history = model.fit(
        x, y, 10, epochs=2, min_anomalies=2, verbose=0, validation_data=(x, y),
        callbacks=[Checkpoints(out / "c")],
    ).history  # fmt: skip
    index = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": "alone"}}'))["task"]["index"]
    arrays = {str(number): variable.numpy() for number, variable in enumerate(training_variables(model))}
    np.savez(out / f"worker-{index}.npz", history=json.dumps(history), **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
