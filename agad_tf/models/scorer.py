"""What scores: networks with averaged weights and re-estimated batch norm, and the checks around them."""

import keras
import numpy as np
import tensorflow as tf

from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError
from agad_tf.evaluation import metrics
from agad_tf.frames import is_frame
from agad_tf.models import habits
from agad_tf.models.doors import Watched, as_stream
from agad_tf.models.inputs import (
    as_samples,
    batches_of,
    batches_of_rows,
    check_labels,
)
from agad_tf.models.saving import SavedDetector
from agad_tf.replicas import worker_count

SCORING_SAMPLES = 1024
"""Normal training samples that re-estimate batch norm and standardise a fused score: 4 batches of 256."""

MAPS = 32
"""Images whose maps are computed at once: networks of photographs take gigabytes for more."""


class AnomalyScorer(SavedDetector):
    """The scoring half of a detector: `call` is the score, from networks readied by `prepare_scoring`.

    A subclass makes its networks in `__init__`, pairs each raw network with the averaged one that scores
    (`_pair`), names its scores in `score_names` and computes them in `raw_score`.
    """

    scoring_batch = 256
    """Samples that `predict` and `evaluate` compute at once where no batch size is given."""

    def _pair(self, raw: str, scoring: str) -> None:
        """Registers attribute names of a raw network and of its scoring twin, and makes them equal."""
        self._pairs.append((raw, scoring))
        getattr(self, scoring).trainable = False
        getattr(self, scoring).set_weights(getattr(self, raw).get_weights())

    def raw_scores(self, names: tuple[str, ...], x: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        """`raw_score` of each name; a subclass computes once what several of them read."""
        return [self.raw_score(name, x, training) for name in names]

    def raw_score(self, name: str, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Score `name` of samples in the model's range, (batch,), higher is more anomalous.

        `training=True` lets batch norm normalise with the batch: for the audit, never for a result.
        """
        raise NotImplementedError(f"{type(self).__name__} must define raw_score(name, x, training)")

    def reconstruct(self, x) -> tf.Tensor:
        """Reconstruction of samples, in the model's range and shape."""
        raise NotImplementedError(f"{type(self).__name__} must define reconstruct(x)")

    def scoring_networks(self) -> dict[str, keras.Model]:
        """The networks that the chosen score reads, by attribute name: what an export holds."""
        raise NotImplementedError(f"{type(self).__name__} must define scoring_networks()")

    def averaged_networks(self) -> list[keras.Model]:
        """Every network with averaged weights, whether the chosen score reads it or not."""
        # No property: Keras would save the networks under its name, and files of before could not be read.
        return [getattr(self, name) for _, name in self._pairs]

    def __call__(self, x, *args, **kwargs):
        """As `call`; of a data frame columns go by their names."""
        # Checked outside of `call`: Keras makes several lines of what is raised inside.
        return super().__call__(self.looked_at(x), *args, **kwargs)

    def call(self, x, training=False):
        """Anomaly score of each sample, (batch,) float32, higher is more anomalous.

        Independent of the other samples of the batch, and always in inference mode: `training` is ignored.

        Raises:
            InputError: samples the model does not take; inside of a graph only those of a wrong type or size.
        """
        return self.chosen_score(self.preprocess(x))

    def check_fitted(self) -> None:
        """Raises InputError where there is nothing yet that a score could read; most have first weights."""

    def looked_at(self, x):
        """Samples as a tensor, checked where their values are known; grey images with their channel.

        Of a data frame columns go by their names.
        """
        x = self.check_samples(x, "x") if is_frame(x) else x
        if not isinstance(x, keras.KerasTensor):
            known = x.numpy() if hasattr(x, "numpy") else None if tf.is_tensor(x) else np.asarray(x)
            # Before TensorFlow says in words of its own what is no tensor:
            if known is not None and not len(self.check_samples(known, "x")):
                raise InputError("x expects at least one sample, received none: pass some")
            x = tf.convert_to_tensor(x)
        return x[..., None] if len(x.shape) == 3 and not self.is_table else x

    def chosen_score(self, x, training: bool = False):
        """The chosen score of samples in the model's range; `training` as in `raw_score`."""
        scores = self.raw_scores(self.parts_of_score, x, training)
        return scores[0] if len(scores) == 1 else self.fuse(scores)

    def fuse(self, scores):
        """The fused score: the sum of all scores, each standardised on training normals.

        Args:
            scores: (batch,) each, in the order of `score_names`.
        """
        return sum(
            (score - self.score_means[index]) / self.score_deviations[index]
            for index, score in enumerate(scores)
        )

    def explain(self, x) -> tuple[tf.Tensor, tf.Tensor]:
        """Reconstruction and error map |x − reconstruction|, of images averaged over channels.

        Args:
            x: uint8 images of any size, float images in the model's range, or raw rows of a table.

        Returns:
            (batch, height, width, channels) in the model's range and (batch, height, width), ≥ 0; of rows
            the scaled reconstruction and the errors of scaled values, both (batch, features).
        """
        x = self.looked_at(x)
        reconstruction = self.reconstruct(x)
        error = tf.abs(self.preprocess(x) - reconstruction)
        return reconstruction, error if self.is_table else tf.reduce_mean(error, axis=-1)

    reconstructs: bool = True
    """Whether there are reconstructions to explain a score with."""

    @property
    def explains(self) -> bool:
        """Whether there are reconstructions, or a map of another kind."""
        return self.reconstructs or type(self).anomaly_map is not AnomalyScorer.anomaly_map

    def anomaly_map(self, x) -> tf.Tensor:
        """How anomalous each place of an image is, (batch, height, width) of the model, ≥ 0.

        Args:
            x: uint8 images of any size, or float images in the model's range.
        """
        return self.explain(x)[1]

    def predict_map(self, x, batch_size: int = MAPS) -> np.ndarray:
        """`anomaly_map` of any number of images, a batch at a time, (n, height, width) float32.

        Args:
            x: images as `predict` takes them, an array, a tensor or `LazyRows`.
            batch_size: images computed at once.

        Raises:
            InputError: no images, images that `predict` refuses, a detector without maps.
        """
        if self.is_table or not self.explains:
            what = "tables" if self.is_table else f"{type(self).__name__}"
            raise InputError(
                f"predict_map expects a detector with heat maps, received one of {what}: take predict"
            )
        x = self.check_samples(as_samples(x), "x")
        if not len(x):
            raise InputError("predict_map expects at least one image, received none: check the selection")
        if self._map_function is None:
            # As a graph: layer by layer, a network holds what all its layers gave until the last one is done.
            self._map_function = tf.function(self.anomaly_map, reduce_retracing=True)
        starts = range(0, len(x), batch_size)
        batches = (tf.constant(np.asarray(x[start : start + batch_size])) for start in starts)
        return np.concatenate([self._map_function(batch).numpy() for batch in batches])

    def pictured(self, x) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Preprocessed images, their reconstructions and `anomaly_map`, for pictures.

        In place of reconstructions, a detector without them gives the images again.
        """
        x = tf.convert_to_tensor(x)
        images = self.preprocess(x)
        return (images, *(self.explain(x) if self.reconstructs else (images, self.anomaly_map(x))))

    def prepare_scoring(self, normals=None, batch_size: int = 256) -> None:
        """Readies the scoring networks: batch-norm statistics re-estimated, fused score standardised.

        `fit` does it at its end and before each validation; by hand it is needed after `train_on_batch` or a
        training loop of one's own.

        Args:
            normals: normal training samples as `fit` takes them; the first 1024 are used. None takes the
                sample kept by the last `fit`.
            batch_size: images a batch of the re-estimation, the batch size of training at best.
        """
        normals = self._scoring_sample if normals is None else normals
        if normals is None:
            raise InputError(
                "prepare_scoring expects normal training samples, received none (no fit kept any): pass some"
            )
        normals = np.asarray(self.check_samples(as_samples(normals), "normals")[:SCORING_SAMPLES])
        if not len(normals):
            raise InputError("normals expects at least one sample, received none: pass some")
        batches = [normals[i : i + batch_size] for i in range(0, len(normals), batch_size)]
        if len(batches) > 1 and len(batches[-1]) < batch_size:
            batches.pop()  # a small last batch would weigh as much as a whole one
        batches = [self.preprocess(tf.convert_to_tensor(batch)) for batch in batches]
        if not self.compiled or self.settings["reestimate_batch_norm"]:
            self._reestimate(batches)
        self.standardise_maps(batches)
        means, deviations = np.zeros(len(self.score_names)), np.ones(len(self.score_names))
        if self.score == "fused":
            scores = np.concatenate([self.raw_scores(self.score_names, batch) for batch in batches], axis=1)
            means, deviations = scores.mean(1), np.maximum(scores.std(1), 1e-12)
        self.score_means.assign(means)
        self.score_deviations.assign(deviations)
        self.scoring_prepared.assign(1.0)

    def standardise_maps(self, batches) -> None:
        """Fits what a local score reads to preprocessed batches of normals; nothing where there is none."""

    def _reestimate(self, batches) -> None:
        """Sets every batch norm of the averaged networks to its mean batch moments over `batches`."""
        norms = [norm for network in self.averaged_networks() for norm in network.batch_norms()]
        momenta = [norm.momentum for norm in norms]
        trainable = [norm.trainable for norm in norms]
        try:
            for norm in norms:
                norm.trainable = True  # a frozen batch norm would not look at the batch
            for index, batch in enumerate(batches):
                for norm in norms:
                    norm.momentum = index / (index + 1)  # running mean of the batches so far
                self.observe(batch)
        finally:
            for norm, momentum, state in zip(norms, momenta, trainable, strict=True):
                norm.momentum, norm.trainable = momentum, state

    def observe(self, batch) -> None:
        """One pass of a batch of normals through the averaged networks in training mode."""
        raise NotImplementedError(f"{type(self).__name__} must define observe(batch)")

    def predict(self, x, batch_size=None, **kwargs):
        """Anomaly scores of samples, (n,) float32; see `call`.

        Args:
            x: samples as an array, tensor or `LazyRows`; a `tf.data.Dataset` of batches or of single samples,
                of x or (x, y); or a `keras.utils.PyDataset`.
            batch_size: samples computed at once, where x is not in batches; None for `scoring_batch`.
            **kwargs: as of `keras.Model.predict`.
        """
        if self.compiled and not self.scoring_prepared.numpy():
            self._warn_once(
                "the scoring networks were not prepared since the last training step: scores use batch-norm "
                "statistics of training; call prepare_scoring(normal training samples)"
            )
        batch_size = batch_size or self.scoring_batch
        stream = as_stream(x, self.sample_shape, batch_size, "predict")
        if stream is not None:
            watched = Watched(lambda batch: self.check_samples(batch, "x"))
            stream = watched.through(stream.map(lambda x, *_: x))
            with watched.errors():
                return self._predict_checked(stream, batch_size, **kwargs)
        x = self.check_samples(as_samples(x), "x")
        if not len(x):
            raise InputError("predict expects at least one sample, received none: check the selection")
        x = batches_of(x, batch_size) if isinstance(x, LazyRows) else x
        return self._predict_checked(x, batch_size, **kwargs)

    def _predict_checked(self, x, batch_size: int, **kwargs) -> np.ndarray:
        if worker_count(self.distribute_strategy) > 1:
            return self._predict_here(x, batch_size)
        if self.is_table and isinstance(x, np.ndarray):
            x = batches_of_rows(x, batch_size)
        return super().predict(x, batch_size=batch_size, **kwargs)

    def predict_on_batch(self, x):
        """Anomaly scores of one batch of samples, an array or tensor, (n,) float32."""
        return super().predict_on_batch(tf.constant(self.check_samples(as_samples(x), "x")))

    def _predict_here(self, x, batch_size: int) -> np.ndarray:
        """Scores without the other workers, each of which has all weights and scores all samples."""
        batches = x
        if not isinstance(x, tf.data.Dataset):
            batches = (x[start : start + batch_size] for start in range(0, len(x), batch_size))
        return np.concatenate([self(tf.convert_to_tensor(batch)).numpy() for batch in batches])

    def _score_labelled(self, stream: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Scores and labels of a dataset of batches (x, y), read once: it may be shuffled."""
        watched = Watched(lambda batch: self.check_samples(batch, "x"))
        one = self.distribute_strategy.num_replicas_in_sync == 1
        scores, labels = [], []
        with watched.errors():
            for batch in watched.through(stream):
                x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
                scores.append(super().predict_on_batch(x) if one else self(x).numpy())
                labels.append(check_labels(None if y is None else y.numpy(), len(scores[-1])))
        if not scores:
            raise InputError("evaluate expects at least one sample, received none: check the dataset")
        return np.concatenate(scores), np.concatenate(labels)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", return_dict=True, **kwargs):
        """Exact AUROC and average precision over all scores at once, in inference mode.

        Args:
            x: samples as for `predict`; datasets give (x, y).
            y: (n,) 0 normal, 1 anomaly; not with a dataset.
            batch_size: samples a prediction batch; None for `scoring_batch`.
            verbose: as in `keras.Model.predict`.
            return_dict: False gives the list of values.
            **kwargs: `callbacks`, as in `keras.Model.evaluate`.

        Returns:
            `score_normal` (mean score of the normals), the same as `loss`, and, where both kinds are present,
            `auroc` and `average_precision`.
        """
        callbacks = kwargs.pop("callbacks", None)
        habits.check_evaluate_arguments(kwargs)
        if callbacks is not None and not hasattr(callbacks, "on_test_begin"):
            callbacks = keras.callbacks.CallbackList(callbacks, model=self)
        if self._fitting:
            self.prepare_scoring()
        batch_size = batch_size or self.scoring_batch
        stream = as_stream(x, self.sample_shape, batch_size, "evaluate")
        if stream is None:
            x, y = self._check_labelled(x, y)
        elif y is not None:
            raise InputError("evaluate expects labels inside the dataset, received y beside it: leave y out")
        if callbacks is not None:
            callbacks.on_test_begin()
        if stream is not None:
            scores, y = self._score_labelled(stream)
        else:
            scores = self.predict(x, batch_size=batch_size, verbose=0 if self._fitting else verbose)
        normal = float(scores[y == 0].mean()) if (y == 0).any() else None
        results = {} if normal is None else {"loss": normal, "score_normal": normal}
        if 0 < y.sum() < len(y):
            # A diverging epoch must not end `fit` here: the guard deals with it.
            finite = np.isfinite(scores).all()
            results["auroc"] = metrics.auroc(y, scores) if finite else float("nan")
            results["average_precision"] = metrics.average_precision(y, scores) if finite else float("nan")
        if callbacks is not None:
            callbacks.on_test_end(results)
        return results if return_dict else list(results.values())
