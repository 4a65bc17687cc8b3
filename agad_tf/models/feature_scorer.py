"""The scoring half of the detector on frozen features: the whole image judged, and its patches."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import tensorflow as tf

from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError
from agad_tf.evaluation.cross_fitting import cross_p_values
from agad_tf.models.detector import AnomalyDetector
from agad_tf.models.feature_rows import FeatureRows, feature_rows
from agad_tf.models.inputs import as_samples
from agad_tf.models.mahalanobis import by_folds, descriptors, mahalanobis
from agad_tf.models.patch_labels import content_of
from agad_tf.models.scorer import SCORING_SAMPLES

JUDGES = {
    "local": ("scoring_discriminator", "local_score"),
    "labels": ("scoring_label_discriminator", "label_score"),
}
"""Parts of the score that a discriminator of patches gives: its attribute, and that of its local score."""

EQUAL_SIDE = 20
"""Side of the grid on which "global" counts as much in the fused score as each of the others."""


class FeatureScorer(AnomalyDetector):
    """What scores in `FeatureDiscriminator`, which makes the networks and trains them."""

    def choose_score(self, has_anomalies):
        return "fused"

    @property
    def fused_parts(self) -> tuple[str, ...]:
        """The scores that the fused one is the sum of."""
        return self.score_names

    @property
    def parts_of_score(self):
        return self.fused_parts if self.score in ("auto", "fused") else (self.score,)

    def raw_score(self, name, x, training=False):
        return self._part(name, self.features(x))

    def chosen_score(self, x, training=False):
        return self._chosen(self.features(x))  # once for all parts

    def _chosen(self, grid) -> tf.Tensor:
        scores = [self._part(name, grid) for name in self.parts_of_score]
        return scores[0] if len(scores) == 1 else self.fuse(scores)

    def fuse(self, scores):
        """The fused score: the sum of `fused_parts`, each standardised on training normals and weighted.

        The weights are in `score_deviations`, see `prepare_scoring`.

        Args:
            scores: (batch,) each, in the order of `fused_parts`.
        """
        indices = [self.score_names.index(name) for name in self.fused_parts]
        return sum(
            (score - self.score_means[index]) / self.score_deviations[index]
            for index, score in zip(indices, scores, strict=True)
        )

    def _part(self, name: str, grid) -> tf.Tensor:
        """Score of standardised features, (batch,)."""
        if name == "global":
            return tf.norm(self.whitened(grid), axis=-1)
        return tf.reduce_mean(self._by_members(name, self._logits(name, grid)), axis=-1)

    def _logits(self, name: str, grid) -> tf.Tensor:
        """Logits of the discriminator of a part, (batch, rows, columns, members)."""
        return getattr(self, JUDGES[name][0])(grid, training=False)

    def _by_members(self, name: str, logits) -> tf.Tensor:
        """Score of each member, (batch, members)."""
        return getattr(self, JUDGES[name][1])(logits)

    def patch_scores(self, name: str, grid) -> tf.Tensor:
        """Logits in deviations from normal images at each place, (batch, rows, columns, members)."""
        return getattr(self, JUDGES[name][1]).standardised(self._logits(name, grid))

    @property
    def worst_patches(self) -> int:
        """How many patches a local score averages."""
        return self.local_score.count

    @property
    def outside_parts(self):
        """See `agad_tf.export.recipe`."""
        of_patches = {name: ("mean_of_largest", f"{name}_patches") for name in JUDGES}
        return {"global": ("length", "away"), **of_patches}

    def outside_outputs(self, x):
        """See `agad_tf.export.recipe`."""
        grid = self.features(x)
        given = {
            f"{name}_patches": self.patch_scores(name, grid) for name in self.parts_of_score if name in JUDGES
        }
        return given | ({"away": self.whitened(grid)} if "global" in self.parts_of_score else {})

    def whitened(self, grid) -> tf.Tensor:
        """What the global score is the length of, (batch, 2 · channels)."""
        return tf.matmul(descriptors(grid) - self.global_mean, self.global_whitening)

    def _flat(self, logits) -> tf.Tensor:
        return tf.reshape(logits, (-1, logits.shape[1] * logits.shape[2], self.members))

    def anomaly_map(self, x):
        """How anomalous each place is, (batch, height, width) of the working size, ≥ 0.

        Args:
            x: uint8 images of any size, or float images in the model's range.
        """
        grid = self.features(self.preprocess(tf.convert_to_tensor(x)))
        judges = [name for name in self.parts_of_score if name in JUDGES]
        if judges:
            scores = tf.concat([self.patch_scores(name, grid) for name in judges], axis=-1)
            scores = tf.nn.softplus(tf.reduce_mean(scores, axis=-1, keepdims=True))
        else:  # how far off the image would be if all of it looked like this place
            channels = grid.shape[3]
            away = (grid - self.global_mean[:channels]) @ self.global_whitening[:channels]
            scores = tf.norm(away, axis=-1, keepdims=True)
        return tf.image.resize(scores, self.sample_shape[:2], method="bilinear")[..., 0]

    def reconstruct(self, x):
        """Raises InputError: the detector reconstructs nothing."""
        raise InputError(
            f"{type(self).__name__} has no reconstructions to explain its scores with: take anomaly_map"
        )

    def scoring_networks(self):
        judges = [name for name in self.parts_of_score if name in JUDGES]
        names = ["features", *(attribute for judge in judges for attribute in JUDGES[judge])]
        return {name: getattr(self, name) for name in names}

    @property
    def scoring_state(self):
        return (*super().scoring_state, "global_mean", "global_whitening")

    def prepare_scoring(self, normals=None, batch_size: int = 32) -> None:
        """Standardises all parts on normals that none was fitted to; see the class.

        "global" is divided by its deviation times the side of the grid in `EQUAL_SIDE`: the finer the grid,
        the less a defect of a few patches moves the mean of all, and the more of "global" is noise.

        Args:
            normals: normal training samples as `fit` takes them; the first 1024 are used. None takes those
                of the last `fit`.
            batch_size: samples at once.
        """
        described, logits, fold = self._held_out(normals, batch_size)
        for name, values in logits.items():
            getattr(self, JUDGES[name][1]).adapt(_of_left_out(values, fold))
        scores = self._scores(described, logits, fold)
        for name in self.fused_parts:
            index = self.score_names.index(name)
            mean, deviation = float(scores[name].mean()), max(float(scores[name].std()), 1e-12)
            if name == "global":
                deviation *= np.sqrt(np.prod(self.features.grid[:2])) / EQUAL_SIDE
            for state, value in ((self.score_means, mean), (self.score_deviations, deviation)):
                state.assign(tf.tensor_scatter_nd_update(state.value, [[index]], [value]))
        self.scoring_prepared.assign(1.0)

    def held_out_scores(self, normals=None, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Scores of training normals by what was not fitted to them, (n,) by part and "fused"; at most 1024.

        Args:
            normals, batch_size: as in `prepare_scoring`.
        """
        scores = self._scores(*self._held_out(normals, batch_size))
        return scores | {"fused": self.fuse([scores[name] for name in self.fused_parts]).numpy()}

    def _held_out(self, normals, batch_size: int):
        if normals is None:  # each once: the batches of an epoch hold some twice
            normals = self._scoring_sample if self._training_normals is None else self._training_normals
        else:
            normals = as_samples(normals)
        if normals is None:
            raise InputError(
                "prepare_scoring expects normal training samples, received none (no fit kept any): pass some"
            )
        return self._described(normals[:SCORING_SAMPLES], "normals", batch_size)

    def _scores(self, described, logits, fold) -> dict[str, np.ndarray]:
        return {
            "global": by_folds(described, fold, self.members)[0],
            **{
                name: self._by_members(name, _of_left_out(v, fold)).numpy()[:, 0]
                for name, v in logits.items()
            },
        }

    def cross_p_values(self, normals, x, batch_size: int = 32) -> np.ndarray:
        """p-values of samples from all training normals, none of which was held out; (m,) float64.

        For small sets: 240 normals give 240 scores to compare with. The price is a weaker promise, see
        `agad_tf.evaluation.cross_fitting.false_alarm_bound`: false alarms at p <= α are at most about 2α.
        The scales of features, of logits at each place and of parts are fitted to all normals, without folds;
        the bound takes no account of that. Always by the fused score.

        Args:
            normals: all normals that `fit` was given.
            x: samples as `predict` takes them.
            batch_size: samples at once.

        Raises:
            InputError: one member, or a detector that `fit` with arrays has not trained in this process: who
                left a sample out goes by the bits of its features.
        """
        if self.members < 2:
            raise InputError("cross_p_values expects at least 2 members, received 1: each leaves out a share")
        if self._training_normals is None:
            raise InputError(
                "cross_p_values expects a detector that fit with arrays has just trained, received one that "
                "was loaded, or trained from a dataset: call fit with the arrays first"
            )
        described, logits, fold = self._described(as_samples(normals), "normals", batch_size)
        new, new_logits, _ = self._described(as_samples(x), "x", batch_size)
        held_out = self._scores(described, logits, fold)
        _, distances = by_folds(described, fold, self.members, new)
        of_new = {name: self._by_members(name, values).numpy() for name, values in new_logits.items()}
        of_new["global"] = distances
        scores = [
            self.fuse([of_new[name][:, member] for name in self.fused_parts])
            for member in range(self.members)
        ]
        held_out = self.fuse([held_out[name] for name in self.fused_parts])
        return cross_p_values(held_out, fold, np.stack(scores, axis=1))

    def _described(self, x, name: str, batch_size: int) -> tuple[np.ndarray, dict, np.ndarray]:
        """Descriptors (n, ·), logits (n, rows, columns, members) by part, and who leaves each out (n,)."""
        x = self.check_samples(x, name)
        if not len(x):
            raise InputError(f"{name} expects at least one sample, received none: pass some")
        # Members left samples out by the bits of features as they are kept, not by those of images.
        if self._training_normals is not None and not self._is_raw(x):
            x = self.rows_of(x, self._folder)
        judges = [part for part in self.fused_parts if part in JUDGES]
        pieces = []
        for start in range(0, len(x), batch_size):
            batch = tf.convert_to_tensor(np.asarray(x[start : start + batch_size]))
            grid = self._grid(batch)
            logits = [self._logits(part, grid) for part in judges]
            fold = tf.argmax(self._left_out(batch), axis=1)
            pieces.append([np.asarray(piece) for piece in (descriptors(grid), fold, *logits)])
        described, fold, *logits = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return described, dict(zip(judges, logits, strict=True)), fold

    # -- samples ---------------------------------------------------------------------------------------------

    def _is_raw(self, x) -> bool:
        """Whether these are raw features and not images."""
        return tuple(x.shape[1:]) == self.features.grid  # images have more rows, and 1 or 3 channels

    def _complete_identity(self, x):
        if not self._is_raw(x):
            super()._complete_identity(x)

    def check_samples(self, x, name):
        return x if self._is_raw(x) else super().check_samples(x, name)

    def _grid(self, x) -> tf.Tensor:
        """Standardised features of a batch of images or of raw features."""
        return self.features.standardise(self._raw_grid(x))

    def _raw_grid(self, x) -> tf.Tensor:
        return x if self._is_raw(x) else self.features.raw(self.preprocess(x))

    def _left_out(self, x) -> tf.Tensor:
        """(batch, members): 1 where a member does not learn from a sample, by the sample's content."""
        return tf.one_hot(tf.math.floormod(content_of(x), self.members), self.members)

    def rows_of(self, x, folder=None) -> FeatureRows:
        """The raw features of samples, computed where they are not kept yet.

        Args:
            x: samples that `check_samples` gave.
            folder: where they are kept in files; None for memory.
        """
        if isinstance(x, FeatureRows):
            return x
        if self._extract_function is None:
            self._extract_function = tf.function(
                lambda images: self.features.raw(self.preprocess(images)), reduce_retracing=True
            )
        settings = {k: v for k, v in self.preprocess.get_config().items() if k not in ("name", "dtype")}
        settings = json.dumps(settings, sort_keys=True, default=str)
        name = hashlib.sha256((self.features.digest() + settings).encode()).hexdigest()
        return feature_rows(x, self._extract_function, name, self.features.grid, folder)

    def adapt_features(self, rows: FeatureRows) -> None:
        """Standardises features by those of the training normals."""
        total, squares, count = 0.0, 0.0, 0
        for block in rows.blocks(64):
            block = block.astype(np.float64)
            total, squares = total + block.sum((0, 1, 2)), squares + (block**2).sum((0, 1, 2))
            count += block[..., 0].size
        mean = total / count
        self.features.adapt(mean, np.sqrt(np.maximum(squares / count - mean**2, 0.0)))

    def fit_global(self, rows: FeatureRows) -> None:
        """Fits the global score to the training normals, whose features are standardised already."""
        described = [descriptors(self._grid(tf.constant(block))) for block in rows.blocks(64)]
        mean, whitening = mahalanobis(np.concatenate(described))
        self.global_mean.assign(mean)
        self.global_whitening.assign(whitening)

    def standardised_parts(self, x) -> dict[str, np.ndarray]:
        """The summands of the fused score by part, (n,) float32 each.

        Args:
            x: samples as `predict` takes them.
        """
        rows, found = self.rows_of(self.check_samples(as_samples(x), "x")), []
        for start in range(0, len(rows), 64):
            grid = self._grid(tf.constant(np.asarray(rows[start : start + 64])))
            found.append([np.asarray(self._part(name, grid)) for name in self.fused_parts])
        scores = np.concatenate(found, axis=1)
        places = [self.score_names.index(name) for name in self.fused_parts]
        means, deviations = np.asarray(self.score_means)[places], np.asarray(self.score_deviations)[places]
        return dict(zip(self.fused_parts, (scores.T - means).T / deviations[:, None], strict=True))

    def predict(self, x, batch_size=None, **kwargs):
        """Anomaly scores of samples, (n,) float32; see `call`."""
        if self._fitting and self._training_normals is not None and isinstance(x, np.ndarray | LazyRows):
            x = self.rows_of(self.check_samples(x, "x"), self._folder)  # callbacks ask again every epoch
        if not isinstance(x, FeatureRows):
            return super().predict(x, batch_size=batch_size, **kwargs)
        scores = []
        for start in range(0, len(x), 64):
            grid = self._grid(tf.constant(np.asarray(x[start : start + 64])))
            scores.append(np.asarray(self._chosen(grid)))
        return np.concatenate(scores)


def _of_left_out(logits: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Of each sample those of the member that did not learn from it, (n, rows, columns, 1)."""
    return np.take_along_axis(logits, fold[:, None, None, None], axis=3)
