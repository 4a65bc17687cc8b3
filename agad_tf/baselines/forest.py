"""What detectors of decision trees share, and the isolation forest."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from sklearn.ensemble import IsolationForest as SklearnIsolationForest

from agad_tf.baselines.fitted_once import FittedOnce
from agad_tf.baselines.trees import Trees, average_cuts, of_forest
from agad_tf.errors import InputError
from agad_tf.models.inputs import preprocessing, whole_number
from agad_tf.models.kept_normals import NOT_FITTED, prepared


class TreeDetector(FittedOnce):
    """Base: trees that scikit-learn makes of preprocessed samples, and that score as arrays of their nodes.

    Args:
        input_shape: (features,), or (height, width, channels).
        seed: of whatever is drawn.
        crop: as in `agad_tf.AGAD`; images only.
        clip, encoding: as in `agad_tf.AABiGAN`; tables only.

    Raises:
        InputError: another shape.
    """

    takes_tables = True
    reconstructs = False
    paper_epochs = 1
    trees_of_score: tuple[str, ...] = ("trees",)
    """Attributes of the trees that the score reads."""

    def __init__(
        self, input_shape, seed: int = 0, crop: str = "stretch", clip: float | None = None, **kwargs
    ):
        super().__init__(input_shape, self.score_names[0], **kwargs)
        self.seed, self.crop, self.clip = seed, crop, clip
        self.preprocess = preprocessing(
            self.sample_shape, (0.0, 1.0), crop, clip, "float32", self.preprocessing, self.encoding
        )
        for name in self.trees_of_score:
            setattr(self, name, Trees(name=name))
        self.built = True

    def check_fitted(self):
        """Raises InputError before `fit`, where there are no trees."""
        if self.trees.sizes is None:
            raise InputError(NOT_FITTED.format(type(self).__name__))

    def looked_at(self, x):
        """As in `AnomalyScorer`; raises InputError before `fit`."""
        self.check_fitted()
        return super().looked_at(x)

    def flat(self, samples) -> np.ndarray:
        """Preprocessed samples as rows (n, values), float32."""
        return np.concatenate([batch.reshape(len(batch), -1) for batch in prepared(self, samples, 256)])

    def columns(self, x) -> tf.Tensor:
        """What the trees see of preprocessed samples, (batch, columns)."""
        return tf.reshape(x, (-1, int(np.prod(self.network_shape))))

    def leaves(self, x) -> tf.Tensor:
        """Values of the leaves that preprocessed samples come to, (batch, trees)."""
        return self.trees(self.columns(x))

    def reconstruct(self, x):
        """Raises InputError: trees reconstruct nothing."""
        raise InputError(f"{type(self).__name__} has no reconstructions to explain its scores with")

    def scoring_networks(self):
        return {name: getattr(self, name) for name in self.trees_of_score}

    @property
    def outside_parts(self):
        """See `agad_tf.export.recipe`."""
        return {self.score_names[0]: ("negated_mean", "negated")}

    def outside_outputs(self, x):
        """See `agad_tf.export.recipe`."""
        return {"negated": -self.raw_score(self.score_names[0], x)[:, None]}

    def get_config(self):
        own = {"input_shape": self.sample_shape, "seed": self.seed, "crop": self.crop, "clip": self.clip}
        sizes = {name: getattr(self, name).sizes for name in self.trees_of_score}
        made = {"sizes": sizes} if all(sizes.values()) else {}
        return {**super().get_config(), **own} | made

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        sizes = config.pop("sizes", {})
        model = super().from_config(config)
        for name, size in sizes.items():
            getattr(model, name).hold(*size)
        return model


@keras.saving.register_keras_serializable("agad_tf")
class IsolationForest(TreeDetector):
    """Isolation forest: a sample is anomalous when few random cuts part it from the others.

    The score is 2^(−E[h(x)] / c(n)), in (0, 1), h the number of cuts and c(n) what it would be on average.
    Labelled anomalies are left out of training.

    Args:
        input_shape, seed, crop, clip, encoding: as in `TreeDetector`.

    Source: Liu, Ting and Zhou, Isolation Forest, ICDM 2008, equation (2); 100 trees on 256 samples each.
    """

    score_names = ("isolation",)

    def __init__(
        self, input_shape, seed: int = 0, crop: str = "stretch", clip: float | None = None, **kwargs
    ):
        super().__init__(input_shape, seed, crop, clip, **kwargs)
        self.usual_cuts = self._state("usual_cuts", (), "ones")  # c(n)

    def compile(
        self,
        n_estimators: int = 100,
        max_samples: int | str = "auto",
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
    ):
        """The paper's settings.

        Args:
            n_estimators: number of trees.
            max_samples: samples a tree is made from; "auto" is 256, or all where there are fewer.
            jit_compile, run_eagerly: as in `FittedOnce.compile`.
        """
        settings = {
            "n_estimators": whole_number(n_estimators, "n_estimators"),
            "max_samples": max_samples if max_samples == "auto" else whole_number(max_samples, "max_samples"),
        }
        self.compile_once(settings | {"jit_compile": jit_compile, "run_eagerly": run_eagerly})

    def fit_to(self, normals):
        forest = forest_of(self.flat(normals), self.settings, self.seed)
        self.trees.take(of_forest(forest))
        self.usual_cuts.assign(average_cuts(forest.max_samples_))

    def raw_score(self, name, x, training=False):
        return isolation(self.leaves(x), self.usual_cuts)

    @property
    def scoring_state(self):
        return (*super().scoring_state, "usual_cuts")


def forest_of(x: np.ndarray, settings: dict, seed: int) -> SklearnIsolationForest:
    """A forest fitted to rows (n, values)."""
    chosen = {name: settings[name] for name in ("n_estimators", "max_samples")}
    return SklearnIsolationForest(**chosen, random_state=seed).fit(x)


def isolation(cuts, usual) -> tf.Tensor:
    """2^(−E[h] / c): the score of samples whose cuts in each tree are given, (batch,)."""
    return tf.pow(2.0, -tf.reduce_mean(cuts, axis=-1) / usual)
