"""A detector that redraws images may score by the places that it redraws worst: the part `local`."""

import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.layers import LocalScore

SMOOTHING = 0.75
"""Deviation of the Gaussian that error maps are smoothed with, in pixels."""

SMOOTHING_BEFORE = 1.5 / 64
"""That of models saved before it was among their settings, as a share of the shorter side."""

FLOOR = 0.01
"""Added to each pixel's deviation of errors: where normals are redrawn perfectly, noise is not news."""

PIXELS = 8
"""How many pixels, those with the largest errors, the score averages by default, whatever the image's size:
a defect is so many pixels large, and no share of the image."""


class LocalErrors:
    """Adds `local` to the parts of a score; for detectors of images with reconstructions.

    A subclass sets `score_share` before its base's constructor, calls `make_local_score` after it, and
    defines `redraw`.

    Args:
        score_smoothing: deviation of the Gaussian that error maps are smoothed with, as a share of the
            shorter side; None is three quarters of a pixel.

    Attributes:
        score_share: share of the pixels that `local` averages; None for a detector without that part.
        local_score: the layer that computes it.
    """

    own_scores: tuple[str, ...]
    """The parts besides `local`."""
    score_share: float | str | None = None
    local_score: LocalScore | None = None

    def __init__(self, *args, score_smoothing: float | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.score_smoothing = score_smoothing

    @property
    def score_names(self):
        """The parts that the score may be."""
        return self.own_scores if self.score_share is None else (*self.own_scores, "local")

    def redraw(self, x, training=False):
        """Reconstructions of preprocessed images, of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} must define redraw(x, training)")

    def offer_local(self, score: str, share: float | str | None) -> None:
        """Sets `score_share`: the given one, or "auto" where the score asks for `local`.

        "fused" does too where there is one other part only, which has nothing else to be fused with.

        Raises:
            InputError: an unknown score, or a share out of range.
        """
        allowed = ("auto", "fused", *self.own_scores, "local")
        if score not in allowed:
            raise InputError(f"score expects one of {', '.join(allowed)}, received {score!r}")
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not (share in (None, "auto") or (number and 0 < share <= 1)):
            raise InputError(
                f"score_share expects a share above 0 and up to 1, 'auto' or None, received {share!r}"
            )
        asked = score == "local" or (score == "fused" and len(self.own_scores) == 1)
        self.score_share = "auto" if share is None and asked else share

    def get_config(self):
        names = "score", "score_share", "score_smoothing"
        return super().get_config() | {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config):
        if len(cls.own_scores) == 1 and config.get("score") == "fused" and config.get("score_share") is None:
            config = config | {
                "score": cls.own_scores[0]
            }  # saved where "fused" was of one part; weights say so
        return super().from_config({"score_smoothing": SMOOTHING_BEFORE} | config)

    def make_local_score(self) -> None:
        """Makes the layer, where there is such a part.

        Raises:
            InputError: rows of a table have no places.
        """
        if self.score_share is None:
            return
        if len(self.sample_shape) == 1:
            raise InputError(
                "score local expects images, received rows (features,): leave score and score_share out"
            )
        rows, columns = self.sample_shape[:2]
        if self.score_share == "auto":
            self.score_share = min(1.0, PIXELS / (rows * columns))
        if self.score_smoothing is None:
            self.score_smoothing = SMOOTHING / min(rows, columns)
        self.local_score = LocalScore(
            self.score_smoothing, self.score_share, FLOOR, dtype="float32", name="local_score"
        )
        self.local_score.build((None, *self.sample_shape[:2], 1))

    def local_part(self, x, reconstruction) -> tf.Tensor:
        """The score `local` of preprocessed images, (batch,)."""
        return self.local_score(error_maps(x, reconstruction)[..., None])[:, 0]

    @property
    def scoring_state(self):
        local = ("local_score.mean", "local_score.deviation") if "local" in self.parts_of_score else ()
        return (*super().scoring_state, *local)

    def standardise_maps(self, batches):
        # Validations between epochs read the chosen score alone.
        if self.score_share is not None and ("local" in self.parts_of_score or not self._fitting):
            maps = (error_maps(batch, self.redraw(batch)) for batch in batches)
            self.local_score.adapt(errors[..., None] for errors in maps)


def error_maps(x: tf.Tensor, reconstruction: tf.Tensor) -> tf.Tensor:
    """|x − x̂| averaged over channels, (batch, height, width) float32."""
    difference = tf.cast(x, tf.float32) - tf.cast(reconstruction, tf.float32)
    return tf.reduce_mean(tf.abs(difference), axis=-1)
