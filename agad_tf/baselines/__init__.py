"""The other detectors: those of the papers' tables, and simple ones; under the contract of `AGAD`.

`BASELINES` is name to class; TensorFlow loads when it is first looked at. `NAMES` can be had without.
"""

import importlib

_CLASSES = {
    "autoencoder": ("agad_tf.baselines.autoencoder", "Autoencoder"),
    "deep_svdd": ("agad_tf.baselines.deep_svdd", "DeepSVDD"),
    "deep_sad": ("agad_tf.baselines.deep_svdd", "DeepSAD"),
    "classifier": ("agad_tf.baselines.classifier", "Classifier"),
    "ganomaly": ("agad_tf.baselines.ganomaly", "GANomaly"),
    "skip_ganomaly": ("agad_tf.baselines.skip_ganomaly", "SkipGANomaly"),
    "alad": ("agad_tf.baselines.alad", "ALAD"),
    "f_anogan": ("agad_tf.baselines.f_anogan", "FAnoGAN"),
    "mahalanobis": ("agad_tf.baselines.on_features", "Mahalanobis"),
    "nearest_patches": ("agad_tf.baselines.on_features", "NearestPatches"),
    "pca": ("agad_tf.baselines.pca", "PCA"),
    "oc_svm": ("agad_tf.baselines.classical", "OneClassSVM"),
    "oc_svm_hybrid": ("agad_tf.baselines.classical", "HybridOneClassSVM"),
    "isolation_forest": ("agad_tf.baselines.forest", "IsolationForest"),
    "neighbours": ("agad_tf.baselines.neighbours", "Neighbours"),
    "gradient_boosting": ("agad_tf.baselines.boosting", "GradientBoosting"),
    "stacked": ("agad_tf.baselines.boosting", "Stacked"),
}

TREES = ("isolation_forest", "gradient_boosting", "stacked")
"""Those of decision trees; of images they have no heat maps, and `agad-tf train` takes tables for them."""
FITTED_ONCE = ("mahalanobis", "nearest_patches", "pca", "neighbours", *TREES)
"""Those that are fitted in one pass and in no steps, which `agad-tf train` takes too."""
NAMES: tuple[str, ...] = tuple(_CLASSES)
"""The baselines' names."""

BASELINES: dict[str, type]

__all__ = ["BASELINES", "NAMES", *sorted(name for _, name in _CLASSES.values())]


def __getattr__(name: str):
    if name == "BASELINES":
        found = {
            key: getattr(importlib.import_module(module), cls) for key, (module, cls) in _CLASSES.items()
        }
        globals()["BASELINES"] = found
        return found
    for module, cls in _CLASSES.values():
        if name == cls:
            return getattr(importlib.import_module(module), cls)
    raise AttributeError(f"module 'agad_tf.baselines' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
