"""Image and table anomaly detection for thousands of good samples and a handful of labelled defects.

`AGAD` and `AABiGAN` are ordinary Keras models: `compile()`, `fit()`, `predict()`; `quota_batches` makes
`tf.data` batches with a guaranteed number of anomalies in each. TensorFlow loads when one is first used.
"""

import importlib

__version__ = "0.1.0"

_LAZY = {
    "AABiGAN": "agad_tf.models",
    "AABiGANNeighbours": "agad_tf.models",
    "AGAD": "agad_tf.models",
    "FeatureDiscriminator": "agad_tf.models",
    "TableEncoding": "agad_tf.encoding",
    "table_encoding": "agad_tf.frames",
    "calibrate": "agad_tf.evaluation.thresholds",
    "quota_batches": "agad_tf.data.batches.quota",
    "compare": "agad_tf.comparison.compare",
    "load_model": "agad_tf.baselines.loading",
    "load_samples": "agad_tf.data.sources.load",
    "one_class_split": "agad_tf.data.splits.protocols",
    "RoutedBatchNormalization": "agad_tf.layers",
    "InputError": "agad_tf.errors",
}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'agad_tf' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
