"""What a run shows: its report, and pictures of what the detector makes of samples and of noise."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from agad_tf.evaluation import heatmaps
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.report import write_report
from agad_tf.evaluation.tiles import tiles

logger = logging.getLogger("agad_tf")


def show(evaluation: Evaluation, folder: Path, title: str, configuration: Mapping[str, object]) -> None:
    """Writes `regions.json`, the pictures and `report.html` into a run.

    Whatever goes wrong there is a warning: it never costs the training.
    """
    try:
        if evaluation.has_pictures and evaluation.region_rule is not None:
            evaluation.region_rule.save(folder / "regions.json")
        write_pictures(evaluation, folder)
        write_report(folder / "report.html", evaluation, title, configuration)
    except Exception as error:
        logger.warning(
            "the run is whole, but its report could not be drawn (%s: %s); to try again: "
            "agad-tf evaluate RUN --report",
            type(error).__name__,
            error,
        )


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
