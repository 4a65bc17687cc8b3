"""What an export without our code needs to know: what its graph gives, and how that becomes a score.

A score that is computed inside an int8 graph has a few dozen values and loses the ranking. So the graph of
a TFLite or ONNX export ends in what the networks make of a sample, and the score follows outside of it, in
float32, by one of `agad_tf.formulas.FORMULAS`.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from agad_tf import formulas
from agad_tf.baselines import BASELINES, FITTED_ONCE
from agad_tf.errors import InputError
from agad_tf.export.agreement import FLOAT32, agreement, rounded_size
from agad_tf.models import AGAD, AABiGAN, AABiGANNeighbours, FeatureDiscriminator
from agad_tf.models.scorer import AnomalyScorer

# Detector to score name to (formula, output of the graph).
_PARTS = {
    AGAD: {
        "reconstruction": ("root_of_squares", "reconstruction"),
        "discriminator": ("negated_mean", "patch_logits"),
        "local": ("largest_errors", "reconstruction"),
    },
    AABiGAN: {
        "reconstruction": ("sum_of_squares", "reconstruction"),
        "latent": ("squared_length", "code"),
    },
}


def score_parts(model: AnomalyScorer) -> list[dict]:
    """The parts of the model's score as `agad_tf.formulas.ready` takes them.

    Raises:
        InputError: a detector whose score has no formula outside of its graph.
    """
    known = _PARTS.get(type(model)) or getattr(model, "outside_parts", None)
    if known is None:
        classes = [
            *_PARTS,
            AABiGANNeighbours,
            FeatureDiscriminator,
            *(BASELINES[name] for name in FITTED_ONCE),
        ]
        able = ", ".join(cls.__name__ for cls in classes)
        raise InputError(
            f"expected one of the detectors {able}, received {type(model).__name__}: export it as SavedModel"
        )
    means, deviations = np.asarray(model.score_means), np.asarray(model.score_deviations)
    return [
        {
            "name": name,
            "formula": known[name][0],
            "output": known[name][1],
            "mean": float(means[model.score_names.index(name)]),
            "deviation": float(deviations[model.score_names.index(name)]),
            **_besides(model, known[name][0]),
        }
        for name in model.parts_of_score
    ]


def _besides(model: AnomalyScorer, formula: str) -> dict:
    """What a formula needs besides an output."""
    if formula == "mean_of_largest":
        return {"count": model.worst_patches}
    if formula != "largest_errors":
        return {}
    local = model.local_score
    return {
        "count": local.count,
        "kernel": local.kernel.tolist(),
        "map_mean": formulas.as_text(local.mean),
        "map_deviation": formulas.as_text(local.deviation),
    }


def graph_outputs(model: AnomalyScorer) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """A function from preprocessed samples to the outputs that `score_parts` reads, by name."""
    wanted = {part["output"] for part in score_parts(model)}

    def agad(x: tf.Tensor) -> dict[str, tf.Tensor]:
        given = {}
        if "reconstruction" in wanted:
            given["reconstruction"] = model.scoring_generator(x, training=False)
        if "patch_logits" in wanted:
            # Before their mean: 64 quantised values keep a ranking that one does not.
            _, features = model.scoring_discriminator(x, training=False)
            given["patch_logits"] = model.scoring_discriminator.classifier(features)
        return given

    def aa_bigan(x: tf.Tensor) -> dict[str, tf.Tensor]:
        code = model.scoring_encoder(x, training=False)
        given = {"code": code} if "code" in wanted else {}
        if "reconstruction" in wanted:
            given["reconstruction"] = model.scoring_generator(code, training=False)
        return given

    def outside(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: value for name, value in model.outside_outputs(x).items() if name in wanted}

    return {AGAD: agad, AABiGAN: aa_bigan}.get(type(model), outside)


def input_description(model: AnomalyScorer) -> dict:
    """What `agad_tf.edge.EdgeModel.preprocess` needs to know."""
    if model.is_table:
        scaling = model.preprocess
        return {
            "kind": "table",
            "shape": list(model.sample_shape),
            "minimum": np.asarray(scaling.minimum, np.float64).tolist(),
            "range": np.asarray(scaling.range, np.float64).tolist(),
            "clip": scaling.clip,
            "rows": "float64" if scaling.exact else "float32",
            **({} if scaling.fill is None else {"fill": np.asarray(scaling.fill, np.float64).tolist()}),
        }
    return {
        "kind": "image",
        "shape": list(model.sample_shape),
        "value_range": list(model.preprocess.value_range),
        "crop": model.preprocess.crop,
        "preprocessing": model.preprocess.version,
    }


def check_recipe(model: AnomalyScorer, x: np.ndarray) -> None:
    """Makes sure that outputs and formulas give the model's own score.

    Args:
        model: from `scoring_twin`.
        x: float32, preprocessed samples.

    Raises:
        RuntimeError: they do not; the recipe of this detector is wrong.
    """
    outputs = {name: value.numpy() for name, value in graph_outputs(model)(tf.constant(x)).items()}
    expected = model.chosen_score(tf.constant(x)).numpy()
    parts = [formulas.ready(part, model.sample_shape) for part in score_parts(model)]
    received = formulas.combine(x, outputs, parts)
    difference = agreement(expected, received, rounded_size(model))
    if not difference <= FLOAT32:
        raise RuntimeError(
            f"the outside score of {type(model).__name__} differs from its own by {difference:.2g}"
        )
