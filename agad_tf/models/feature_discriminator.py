"""Detection on the features of a frozen, pretrained network: the whole image judged, and its patches."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError
from agad_tf.features.layer import FrozenFeatures
from agad_tf.layers import ImagePreprocessing, LocalScore
from agad_tf.losses import feature_discriminator as losses
from agad_tf.models.feature_scorer import FeatureScorer
from agad_tf.models.patch_labels import PatchLabels, at_masks, content_of, worst_places
from agad_tf.models.settings import check_settings, settings_of
from agad_tf.models.updates import fresh_values
from agad_tf.networks.patch_members import patch_members
from agad_tf.replicas import replica_index_and_count

STEPS = 84
"""Steps of an epoch of `fit` with arrays, however many samples there are."""


FLOOR = 1.0
"""Added to the deviation of a logit at each place of the grid: where parts turn, all places are alike."""


@keras.saving.register_keras_serializable("agad_tf")
class FeatureDiscriminator(FeatureScorer):
    """Patches of normal images told apart from the same patches with noise, on frozen features.

    ```python
    model = agad_tf.FeatureDiscriminator((256, 256, 3))
    model.fit(images, labels, epochs=10)  # uint8 of any size; labels: 0 normal, 1 anomaly
    scores = model.predict(new_images)  # higher is more anomalous
    ```

    A pretrained network that is never trained turns an image into a grid of features. Three scores read it:

    - "global": Mahalanobis distance of the mean and the deviation of each feature over the grid to those of
      the training normals, their covariance shrunk by Ledoit and Wolf's rule. It learns from no label.
    - "local": a small discriminator of single patches learns to tell features of normal images from the same
      features with Gaussian noise. Its logits are standardised at each place on normals; the score is the
      mean of the largest share of them. It learns from no label either.
    - "labels": a second discriminator learns the same, and labelled anomalies besides. An image's label says
      that there is a defect and not where: it counts for the patches that the first discriminator, which has
      seen no label, takes for the worst, of those at the mask where the image has one. A discriminator
      that chose them itself could learn twelve images by heart, background and all.

    "fused" is the sum of those that learnt something, each standardised on training normals that it was not
    fitted to: the covariance by cross-fitting, a discriminator by its members, each of which leaves out its
    share of the normals. "global" is weighted by 20 over the side of the grid: on a fine one a small defect
    hardly moves a mean. What labels teach is added to what is known without them, and replaces nothing.

    Noise stands where AGAD has the reconstructions of its generator: both make pseudo-anomalies out of normal
    samples, and so need few labelled ones.

    Args:
        input_shape: (height, width, channels) that the network works at, 64 to 512 a side, multiples of 16
            for efficientnet_lite0, channels 1 or 3; uint8 images of any size are resized to it.
        features: "efficientnet_lite0" (weights from the extra `features`), the name of a network of
            `keras.applications`, a `.keras` file or a Keras model, or a `agad_tf.features.FrozenFeatures`.
            A file or model of one's own takes images in [−1, 1].
        features_weights: of a network of `keras.applications`, "imagenet" (Keras downloads them) or a path.
        taps: names of the layers to tap; None finds them, see `agad_tf.features.sources.tapped`.
        members: networks of a discriminator whose logits are averaged; each leaves out its share of the
            normals.
        units: channels of the hidden layers of each.
        score_share: share of the patches, those with the largest logits, that "local" and "labels" average.
        score: "global", "local", "labels" or "fused"; "auto" is "fused".
        seed: of first weights and of the noise.
        crop: as in `agad_tf.AGAD`.

    Attributes:
        features: the frozen network, a `FrozenFeatures`.
        masks_learnt: number of labelled anomalies of the last `fit` whose masks said where their defects are.
        discriminator, label_discriminator: the members, which train; with scoring_ before it: their average
            over steps.

    Raises:
        InputError: a network that cannot be had or has no such taps, a size that it cannot take.

    Sources: SimpleNet (Liu et al., CVPR 2023) and SuperSimpleNet (Rolih et al., ICPR 2024) for noise in
    feature space; Rippel et al., ICPR 2020, for Mahalanobis distances on pretrained features; Ledoit and
    Wolf, Journal of Multivariate Analysis 88, 2004.
    """

    scoring_batch = 32  # at 256 pixels 256 of them would take several GB
    score_names = ("global", "local", "labels")
    log_names = ("loss", "noise_loss", "label_loss", "gradient_norm")
    guarded_error = None
    reconstructs = False

    def __init__(
        self,
        input_shape,
        features: str = "efficientnet_lite0",
        features_weights: str = "imagenet",
        taps: list | None = None,
        members: int = 3,
        units: list | tuple = (128, 64),
        score_share: float = 0.004,
        score: str = "auto",
        seed: int = 0,
        crop: str = "stretch",
        **kwargs,
    ):
        super().__init__(input_shape, score, **kwargs)
        if self.is_table:
            raise InputError(
                "FeatureDiscriminator expects images (height, width, channels), received rows (features,) of "
                f"shape {self.sample_shape}: take agad_tf.AABiGAN"
            )
        if self.sample_shape[-1] not in (1, 3):
            raise InputError(f"input_shape expects 1 or 3 channels, received {self.sample_shape[-1]}")
        if not 0 < score_share <= 1:
            raise InputError(f"score_share expects a share above 0 and up to 1, received {score_share}")
        self.members, self.units, self.score_share = int(members), tuple(units), float(score_share)
        self.seed, self.crop = seed, crop
        self.preprocess = ImagePreprocessing(
            self.sample_shape[:2], crop=crop, version=self.preprocessing, dtype="float32"
        )
        if not isinstance(features, FrozenFeatures):
            features = FrozenFeatures.from_source(
                features, self.sample_shape[:2], features_weights, taps, name="features", dtype="float32"
            )
        if features.image_size != self.sample_shape[:2]:
            raise InputError(
                f"features expects a working size of {features.image_size}, received input_shape "
                f"{self.sample_shape}"
            )
        self.features = features
        channels = features.grid[2]
        for index, name in enumerate(("discriminator", "label_discriminator")):
            for prefix, dtype in (("", self.dtype_policy), ("scoring_", "float32")):
                network = patch_members(channels, self.members, self.units, dtype, prefix + name)
                setattr(self, network.name, network)
            first = getattr(self, name).variables
            for variable, value in zip(first, fresh_values(first, tf.constant([seed, index])), strict=True):
                variable.assign(value)
            self._pair(name, f"scoring_{name}")
        for name in ("local_score", "label_score"):
            layer = LocalScore(share=self.score_share, floor=FLOOR, name=name, dtype="float32")
            layer.build((None, *features.grid[:2], self.members))
            setattr(self, name, layer)
        self.labels_learnt = self._state("labels_learnt", ())
        self.global_mean = self._state("global_mean", (2 * channels,))
        self.global_whitening = self._state("global_whitening", (2 * channels, 2 * channels))
        self._training_normals = self._extract_function = self._folder = None
        self._with_labels, self._epochs, self._knows_normals = True, None, False
        self._patch_labels: PatchLabels | None = None
        self.masks_learnt = 0
        self._label_start = tf.Variable(0.0, trainable=False, name="label_start")  # not of what is saved
        self.built = True

    # -- training --------------------------------------------------------------------------------------------

    @property
    def fused_parts(self):
        with tf.init_scope():  # a part of the network, not of a graph
            learnt = float(self.labels_learnt.numpy()) > 0
        return self.score_names if learnt else self.score_names[:2]

    @property
    def scoring_state(self):
        return (*super().scoring_state, "labels_learnt")

    def trained_by(self):
        networks = (self.discriminator, self.label_discriminator)
        return {"optimizer": [weight for network in networks for weight in network.trainable_variables]}

    def compile(
        self,
        learning_rate: float = 1e-3,
        weight_decay: float = 4e-3,
        noise: float | list = 0.5,
        patches: int = 64,
        label_weight: float = 1.0,
        label_share: float = 0.02,
        label_after: int = 2 * STEPS,
        optimizer=None,
        clip_norm: float | None = None,
        average_epochs: float = 0.5,
        guard: bool = True,
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
    ):
        """How the discriminator learns; the global score is fitted at once and needs none of it.

        Args:
            learning_rate, weight_decay: of AdamW.
            noise: deviation of the noise on standardised features; of several each patch draws one.
            patches: of each image, drawn anew in every step, that noise is added to.
            label_weight: of the loss of labelled images beside that of the noise.
            label_share: share of an image's patches, the worst ones, that its label is about.
            label_after: steps before labels count, at most half of those of a `fit`: which patches are the
                worst must be learnt first.
            optimizer: a Keras optimizer instead of AdamW.
            clip_norm: largest global gradient norm; None for none.
            average_epochs: horizon of the moving average of weights that score, in epochs.
            guard: after an epoch with a loss that is not finite, back to the last good weights once.
            jit_compile: XLA; "auto" is on for a GPU and off on a CPU.
            run_eagerly: as in Keras, for debugging.
        """
        settings = settings_of(locals())
        settings["noise"] = list(noise) if isinstance(noise, list | tuple) else [noise]
        if not settings["noise"] or not min(settings["noise"]) > 0:
            raise InputError(f"noise expects numbers above 0, received {noise}")
        if patches < 1:
            raise InputError(f"patches expects a number of at least 1, received {patches}")
        check_settings(settings, ("learning_rate", "weight_decay", "label_weight", "label_after"))
        if not 0 < label_share <= 1:
            raise InputError(f"label_share expects a share above 0 and up to 1, received {label_share}")
        adam = keras.optimizers.AdamW(learning_rate, weight_decay)
        self.compile_with({"optimizer": optimizer or adam}, settings)

    def train_step(self, data):
        """One step on one batch (x, y) of images or of raw features."""
        x, y = self.unpack(data)
        left_out = self._left_out(x) if self.members > 1 else tf.zeros((tf.shape(x)[0], 1))
        grid = self._raw_grid(x)  # standardised where it is looked at, which is not everywhere
        anomaly = tf.repeat(tf.cast(y == 1, tf.float32)[:, None], self.members, axis=1)
        normal = (1.0 - anomaly) * (1.0 - left_out)
        drawn, noise = self._drawn(grid)
        networks = self._learning()
        labelled, worst = tf.where(y == 1), None
        if self._with_labels:
            begun = self.average_steps >= self._label_start
            allowed = None
            if self._patch_labels is not None:
                allowed = tf.gather_nd(self._patch_labels.of(content_of(x)), labelled)
            worst = self._worst(tf.gather_nd(grid, labelled), begun, allowed)
        with tf.GradientTape() as tape:
            plain = [self._judged(network, drawn) for network in networks]
            noisy = [self._judged(network, drawn + noise) for network in networks]
            noise_loss = tf.add_n(
                [losses.noise_loss(*pair, normal) for pair in zip(plain, noisy, strict=True)]
            )
            label_loss = 0.0
            if worst is not None:
                defects = tf.reduce_mean(self._judged(self.label_discriminator, worst), axis=1)
                hardest = losses.worst_mean(plain[-1], self.settings["label_share"])
                judged = tf.tensor_scatter_nd_update(hardest, labelled, defects)
                label_loss = tf.cast(begun, judged.dtype) * losses.label_loss(judged, normal, anomaly)
            loss = noise_loss + self.settings["label_weight"] * label_loss
            scaled = self.scale_loss(loss, self.optimizer)
        variables = [weight for network in networks for weight in network.trainable_variables]
        norm = self.step(tape, scaled, variables, self.optimizer)
        self.update_averages()
        logs = {"loss": loss, "noise_loss": noise_loss, "label_loss": label_loss, "gradient_norm": norm}
        return self.track(logs, totals={})

    def _learning(self) -> list:
        """The discriminators that a step trains."""
        return [
            *([] if self._knows_normals else [self.discriminator]),
            *([self.label_discriminator] if self._with_labels else []),
        ]

    def _judged(self, network, patches) -> tf.Tensor:
        """Logits of the members in training, (batch, patches, members)."""
        return self._flat(network(patches, training=True))

    def _worst(self, grid, begun, allowed=None) -> tf.Tensor:
        """The patches of each image that look worst to who knows no label, (batch, count, 1, channels).

        Any patches before labels have begun to count: looking at all of them would be for nothing.

        Args:
            grid: raw features.
            begun: whether labels count.
            allowed: as in `worst_places`.
        """
        rows, columns, channels = self.features.grid
        count = losses.largest_count(rows * columns, self.settings["label_share"])
        patches = tf.reshape(grid, (-1, rows * columns, 1, channels))

        def worst():
            logits = self._flat(self._logits("local", self.features.standardise(grid)))
            places = worst_places(tf.reduce_mean(logits, axis=-1), count, allowed)
            return tf.gather(patches, places, batch_dims=1)

        return self.features.standardise(tf.cond(begun, worst, lambda: patches[:, :count]))

    def _drawn(self, grid) -> tuple[tf.Tensor, tf.Tensor]:
        """Some patches of each image, standardised, (batch, patches, 1, channels), and noise for them.

        Fixed by seed and step, the same however replicas share the batch.
        """
        step = tf.cast(self.average_steps, tf.int32)
        rows, columns, channels = self.features.grid
        patches = min(self.settings["patches"], rows * columns)
        sizes, kinds = tf.constant(self.settings["noise"], tf.float32), len(self.settings["noise"])

        def seed(draw):
            return tf.stack([tf.constant(3 * self.seed + draw, tf.int32), step])

        def draw(count):
            places = tf.random.stateless_uniform((count, patches), seed(0), 0, rows * columns, tf.int32)
            noise = tf.random.stateless_normal((count, patches, 1, channels), seed(1))
            which = tf.random.stateless_uniform((count, patches, 1, 1), seed(2), 0, kinds, tf.int32)
            return places, noise * tf.gather(sizes, which)

        index, count = replica_index_and_count()
        size = tf.shape(grid)[0]
        places, noise = (part[index * size : (index + 1) * size] for part in draw(count * size))
        flat = tf.reshape(grid, (-1, rows * columns, 1, channels))
        return self.features.standardise(tf.gather(flat, places, batch_dims=1)), noise

    def learn_labels_after(self, other: FeatureDiscriminator) -> None:
        """Takes over from a trained detector what no label taught it; `fit` then trains on labels alone.

        Taken are the standardisation of features, the global score and the first discriminator. Nothing is
        trained twice where the same normals go with other labels.

        Args:
            other: of the same settings, trained on the same normals.

        Raises:
            InputError: by `fit`, without labelled anomalies.
        """
        for name in ("features", "discriminator", "scoring_discriminator"):
            source = other.scoring_discriminator if name == "discriminator" else getattr(other, name)
            getattr(self, name).set_weights(source.get_weights())
        for name in ("global_mean", "global_whitening"):
            getattr(self, name).assign(getattr(other, name))
        self._knows_normals, self._step_function = True, None

    def fit(
        self,
        x=None,
        y=None,
        batch_size=24,
        epochs=1,
        *,
        min_anomalies=8,
        steps_per_epoch=None,
        validation_data=None,
        augment=None,
        masks=None,
        features_folder=None,
        **kwargs,
    ):
        """As `AnomalyDetector.fit`; of arrays, features are computed once, and an epoch is 84 steps.

        Args:
            x, y, epochs, min_anomalies, validation_data, kwargs: as there.
            batch_size: samples a step, anomalies among them.
            steps_per_epoch: None for 84 with arrays, the length of a dataset.
            augment: as there; features are then computed anew in every step.
            masks: of each sample bool (height, width), True where its defect is, or None for one without; of
                images as arrays without `augment`. Those of anomalies say which patches a label is about.
            features_folder: keeps features in files there, which a resumed training goes on with; None for
                memory.

        Raises:
            InputError: as there; masks with a dataset or `augment`, of another number than samples or another
                size than images, or without a defect.
        """
        if not self.compiled:
            self.compile()
        self._training_normals, self._folder, self._epochs = None, features_folder, epochs
        self.masks_learnt = 0
        if self._patch_labels is not None or masks is not None:
            self._patch_labels, self._step_function = None, None  # a step is traced with the masks it has
        arrays = not isinstance(x, tf.data.Dataset | keras.utils.PyDataset) and augment is None
        if masks is not None and not arrays:
            raise InputError("masks expects arrays without augment, received another: leave the masks out")
        if arrays:
            x, y = self._check_labelled(x, y)
            if not (y == 0).any():
                raise InputError("fit expects normal samples (label 0), received none: check the labels")
            self._complete_identity(np.asarray(x[:1]) if isinstance(x, LazyRows) else x)
            masked, patches = at_masks(masks, y, self.preprocess, self.features.grid[:2], x.shape[1:3])
            x = self.rows_of(x, features_folder)
            self._training_normals = x[y == 0]
            if len(masked):
                content = [content_of(tf.constant(block)).numpy() for block in x[masked].blocks(64)]
                self._patch_labels = PatchLabels(np.concatenate(content), patches)
                self.masks_learnt = len(masked)
            steps_per_epoch = steps_per_epoch or STEPS
            if isinstance(validation_data, tuple | list) and len(validation_data) == 2:
                held_out, labels = self._check_labelled(*validation_data)
                validation_data = (self.rows_of(held_out, features_folder), labels)
        return super().fit(
            x,
            y,
            batch_size,
            epochs,
            min_anomalies=min_anomalies,
            steps_per_epoch=steps_per_epoch,
            validation_data=validation_data,
            augment=augment,
            **kwargs,
        )

    def _begin(self, sample, steps_per_epoch):
        if self._with_labels != sample[1]:
            self._with_labels, self._step_function = sample[1], None  # it was traced for the other case
        start = self.settings["label_after"]
        if self._epochs is not None:
            start = min(start, self._epochs * steps_per_epoch // 2)
        self._label_start.assign(float(start))
        if sample[1]:
            self.labels_learnt.assign(1.0)
            self._forget_traces()
        elif self._knows_normals:
            raise InputError(
                "fit after learn_labels_after expects labelled anomalies, received none: all else is learnt"
            )
        elif self.score == "labels":
            raise InputError(
                "score 'labels' expects labelled anomalies, received none: add some, or take another score"
            )
        super()._begin(sample, steps_per_epoch)

    def _adapt(self, normals) -> None:
        """Fits the standardisation of features and the global score; training goes on with what there is."""
        if self.features.adapted.numpy():
            return
        if self._training_normals is None:
            normals = self.rows_of(self.check_samples(normals, "x"))
        else:
            normals = self._training_normals
        self.adapt_features(normals)
        self.fit_global(normals)

    def get_config(self):
        return {
            **super().get_config(),
            "input_shape": self.sample_shape,
            "features": keras.saving.serialize_keras_object(self.features),
            "members": self.members,
            "units": self.units,
            "score_share": self.score_share,
            "score": self.score,
            "seed": self.seed,
            "crop": self.crop,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["features"], dict):
            config["features"] = keras.saving.deserialize_keras_object(config["features"])
        return cls(**config)
