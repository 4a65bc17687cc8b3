"""The scoring half of AGAD: the whole image, its worst places, and what the discriminator says."""

import tensorflow as tf

from agad_tf.models.detector import AnomalyDetector
from agad_tf.models.local_errors import LocalErrors

BEFORE_LOCAL = ("reconstruction", "discriminator")
"""The scores of files made before there was a local one, and the parts of their fused score."""

PHOTOGRAPHS = 64
"""Shorter side from which on images are taken for photographs: anomalies for local where none is labelled."""

READ_RECONSTRUCTIONS = {"reconstruction", "local"}


class AGADScorer(LocalErrors, AnomalyDetector):
    """What scores in `AGAD`, which makes the networks and trains them."""

    own_scores = BEFORE_LOCAL

    def raw_score(self, name, x, training=False):
        return self.raw_scores((name,), x, training)[0]

    def raw_scores(self, names, x, training=False):
        reconstruction = None
        if READ_RECONSTRUCTIONS.intersection(names):
            reconstruction = self.redraw(x, training)
        return [self._part(name, x, reconstruction, training) for name in names]

    def _part(self, name, x, reconstruction, training):
        if name == "discriminator":
            logit, _ = self.scoring_discriminator(x, training=training)
            return -tf.cast(logit, tf.float32)
        if name == "local":
            return self.local_part(x, reconstruction)
        difference = tf.cast(x, tf.float32) - tf.cast(reconstruction, tf.float32)
        return tf.sqrt(tf.reduce_sum(tf.square(difference), axis=[1, 2, 3]))

    def choose_score(self, has_anomalies):
        if self.settings.get("literal") or self.score_share is None:
            return super().choose_score(has_anomalies)
        if has_anomalies:
            return "fused"
        return "local" if min(self.sample_shape[:2]) >= PHOTOGRAPHS else "reconstruction"

    def redraw(self, x, training=False):
        return self.scoring_generator(x, training=training)

    def reconstruct(self, x):
        """G(x), (batch, height, width, channels) in [−1, 1]."""
        return self.redraw(self.preprocess(tf.convert_to_tensor(x)))

    def scoring_networks(self):
        networks = {}
        if READ_RECONSTRUCTIONS.intersection(self.parts_of_score):
            networks["scoring_generator"] = self.scoring_generator
        if "discriminator" in self.parts_of_score:
            networks["scoring_discriminator"] = self.scoring_discriminator
        return networks

    def observe(self, batch):
        # Both, whichever is scored with: `explain` shows the generator of any score.
        self.scoring_generator(batch, training=True)
        self.scoring_discriminator(batch, training=True)
