"""The pictures of a run: what the detector makes of samples, and of noise."""

from pathlib import Path

import numpy as np

from agad_tf.evaluation import heatmaps
from agad_tf.evaluation.tiles import tiles


def write_pictures(model, samples, split, folder: Path, calibration=None, columns: int = 8) -> None:
    """Writes `reconstructions.png`, normals above, anomalies below, and `generated.png` of a model with G(z).

    Args:
        model: a prepared detector; one of tables has no pictures.
        samples, split: whose test part is drawn from.
        folder: to write into.
        calibration: whose threshold decides what is called an alarm, or None.
        columns: samples of each kind.
    """
    if model.is_table:
        return
    rng = np.random.default_rng(0)
    kinds = [rng.permutation(rows)[:columns] for rows in (split.test_normal, split.test_anomaly)]
    rows = np.concatenate(kinds)
    labels = np.repeat([0, 1], [len(kind) for kind in kinds])
    x = np.asarray(samples.x[rows])
    shown, reconstruction, error_map = model.pictured(x)
    heatmaps.reconstruction_grid(
        np.asarray(shown),
        np.asarray(reconstruction),
        np.asarray(error_map),
        labels,
        model.predict(x, verbose=0),
        path=folder / "reconstructions.png",
        threshold=None if calibration is None else calibration.threshold,
        value_range=model.preprocess.value_range,
    )
    if hasattr(model, "generate"):
        generated = np.asarray(model.generate(4 * columns))
        path = folder / "generated.png"
        tiles(generated, path, columns, value_range=model.preprocess.value_range, title="G(z), z ~ N(0, I)")
