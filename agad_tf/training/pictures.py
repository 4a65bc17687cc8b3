"""The pictures of a run: what the detector makes of samples, and of noise."""

from pathlib import Path

import numpy as np

from agad_tf.evaluation import heatmaps
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.tiles import tiles


def write_pictures(evaluation: Evaluation, folder: Path, columns: int = 8) -> None:
    """Writes `reconstructions.png`, normals above, anomalies below, and `generated.png` of a model with G(z).

    Args:
        evaluation: whose test part is drawn from, and whose threshold decides what is called an alarm; one
            of tables has no pictures.
        folder: to write into.
        columns: samples of each kind.
    """
    if not evaluation.has_pictures:
        return
    model, calibration = evaluation.model, evaluation.calibration
    rng = np.random.default_rng(0)
    kinds = [rng.permutation(np.flatnonzero(evaluation.labels == kind))[:columns] for kind in (0, 1)]
    picked = np.concatenate(kinds)
    heatmaps.reconstruction_grid(
        *evaluation.explain(picked),
        evaluation.labels[picked],
        evaluation.scores[picked],
        path=folder / "reconstructions.png",
        threshold=None if calibration is None else calibration.threshold,
        value_range=model.preprocess.value_range,
    )
    if hasattr(model, "generate"):
        generated = np.asarray(model.generate(4 * columns))
        path = folder / "generated.png"
        tiles(generated, path, columns, value_range=model.preprocess.value_range, title="G(z), z ~ N(0, I)")
