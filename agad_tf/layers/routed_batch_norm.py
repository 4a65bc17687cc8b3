"""Batch normalisation with several heads, each sample through the head of its route.

AGAD, section 6.2, studies which samples may share batch-normalisation statistics: pseudo-anomalies in an
auxiliary batch norm (*AdvProp*), true anomalies normalised by frozen statistics (*freeze BN*). One layer
expresses all of them: a *route* says what a sample is, a *strategy* maps routes to *heads*, and a head owns
moving statistics and an affine transformation.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.replicas import replica_count, sum_over_replicas

FROZEN = -1
"""In `route_heads`: normalise with the moving statistics of head 0 and leave them as they are."""

# Routes: 0 normal, 1 fed-back reconstruction (whatever its source), 2 true anomaly.
BN_STRATEGIES: dict[str, tuple[int, int, int]] = {
    "shared": (0, 0, 0),
    "adv_prop": (0, 1, 0),
    "freeze": (0, 0, FROZEN),
    "adv_prop_freeze": (0, 1, FROZEN),
}
"""Strategy name to the head of routes 0 (normal), 1 (fed-back reconstruction), 2 (anomaly)."""


@keras.saving.register_keras_serializable("agad_tf")
class RoutedBatchNormalization(keras.layers.Layer):
    """Batch normalisation in which every sample is normalised by its head's batch moments.

    With one route it equals `keras.layers.BatchNormalization`. Moments are taken in float32 (float64 for
    float64 variables) under any precision policy, and over all replicas of a `tf.distribute` strategy. A
    head without samples in a batch keeps its statistics exactly, and produces no NaN. In inference every
    sample goes through head 0, the head of the normal samples.

    Args:
        route_heads: head of each route, `FROZEN` for routes that are normalised by head 0's moving
            statistics without updating them; `len(route_heads)` routes exist. Heads are numbered from 0.
        share_affine: one scale and offset for all heads, with statistics still per head.
        momentum: share of the moving statistics kept at each update, in [0, 1].
        epsilon: added to the variance, > 0.
        center: learn an offset.
        scale: learn a scale.

    Source: AGAD (arXiv 2304.04211), section 6.2; AdvProp (arXiv 1911.09665).
    """

    def __init__(
        self,
        route_heads: Sequence[int] = (0,),
        share_affine: bool = False,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.route_heads = tuple(int(head) for head in route_heads)
        heads = sorted({head for head in self.route_heads if head != FROZEN})
        if not heads or heads != list(range(len(heads))) or self.route_heads[0] != 0:
            raise InputError(
                "route_heads needs heads numbered from 0 without gaps, route 0 on head 0, "
                f"and FROZEN ({FROZEN}) elsewhere at will; got {self.route_heads}"
            )
        if momentum < 0 or momentum > 1 or epsilon <= 0:
            raise InputError(
                f"momentum must lie in [0, 1] and epsilon above 0; got momentum={momentum}, epsilon={epsilon}"
            )
        self.head_count = len(heads)
        self.share_affine = share_affine
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.supports_masking = True
        # BN's own arithmetic is done in the variables' precision; autocast would round the input twice.
        self.autocast = False

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None:
            raise InputError(f"the last axis (channels) must be known; got input shape {tuple(input_shape)}")
        statistics = (self.head_count, channels)
        affine = (1 if self.share_affine else self.head_count, channels)
        # Every replica computes the same global statistics: one copy is as good as their mean.
        replicated = {"trainable": False, "aggregation": "only_first_replica"}

        def weight(name, shape, initializer, **how):
            return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False, **how)

        self.gamma = weight("gamma", affine, "ones") if self.scale else None
        self.beta = weight("beta", affine, "zeros") if self.center else None
        self.moving_mean = weight("moving_mean", statistics, "zeros", **replicated)
        self.moving_variance = weight("moving_variance", statistics, "ones", **replicated)

    def call(self, x, route=None, training=False):
        """Normalises `x`.

        Args:
            x: (batch, ..., channels).
            route: int tensor (batch,), one int for the whole batch, or None for route 0; only for training.
            training: True uses and updates batch statistics; False uses head 0's moving statistics.

        Returns:
            Tensor of the shape of `x` in the layer's compute dtype.
        """
        precision = tf.float64 if self.variable_dtype == "float64" else tf.float32
        x = tf.cast(x, precision)
        if not (training and self.trainable):
            output = self._by_head(x, 0, self.moving_mean[0], self.moving_variance[0])
        elif self.route_heads == (0,) * len(self.route_heads):
            output = self._by_batch(x, 0)
        elif route is None or isinstance(route, int):
            if route is not None and not 0 <= route < len(self.route_heads):
                raise InputError(
                    f"route expects 0 to {len(self.route_heads) - 1}, received {route}: "
                    "give the layer a head for it in route_heads"
                )
            head = self.route_heads[route or 0]
            if head == FROZEN:
                output = self._by_head(x, 0, self.moving_mean[0], self.moving_variance[0])
            else:
                output = self._by_batch(x, head)
        else:
            output = self._by_route(x, route)
        return tf.cast(output, self.compute_dtype)

    def _by_batch(self, x, head: int):
        """The whole batch through one head: ordinary batch normalisation."""
        axes = list(range(len(x.shape) - 1))
        if replica_count() > 1:
            count = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
            total, count = sum_over_replicas([tf.reduce_sum(x, axes), count])
            mean = total / count
            squares = sum_over_replicas(tf.reduce_sum(tf.math.squared_difference(x, mean), axes))
            variance = squares / count
            output = self._by_head(x, head, mean, variance)
        elif len(x.shape) == 4 and x.dtype == tf.float32:
            output, mean, variance = self._fused(x, head)
        else:
            mean, variance = tf.nn.moments(x, axes)
            output = self._by_head(x, head, mean, variance)
        index = tf.one_hot([head], self.head_count, dtype=x.dtype)[0][:, None]
        self._update(mean[None], variance[None], index)
        return output

    def _fused(self, x, head: int):
        """One kernel for moments and normalisation of images: 3 times faster on CPU than separate steps."""
        row = 0 if self.share_affine else head
        channels = x.shape[-1]
        output, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=tf.cast(self.gamma[row], x.dtype) if self.scale else tf.ones([channels]),
            offset=tf.cast(self.beta[row], x.dtype) if self.center else tf.zeros([channels]),
            mean=tf.constant([], tf.float32),
            variance=tf.constant([], tf.float32),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel normalises with the population variance but returns the sample variance.
        count = tf.cast(tf.size(x) // channels, x.dtype)
        return output, mean, variance * (count - 1.0) / count

    def _by_head(self, x, head: int, mean, variance):
        row = 0 if self.share_affine else head
        gamma = self.gamma[row] if self.scale else None
        beta = self.beta[row] if self.center else None
        mean, variance = tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.epsilon)

    def _by_route(self, x, route):
        """Each sample through the head of its route, with moments by one-hot matrix products."""
        spatial = list(range(1, len(x.shape) - 1))
        route = tf.broadcast_to(route, tf.shape(x)[:1])  # one number stands for the whole batch
        heads = tf.gather(tf.constant(self.route_heads), route)
        member = tf.one_hot(
            heads, self.head_count, dtype=x.dtype
        )  # (B, heads); a frozen sample has a row of 0
        frozen = tf.cast(heads == FROZEN, x.dtype)[:, None]  # (B, 1)
        pixels = tf.cast(tf.reduce_prod(tf.shape(x)[1:-1]), x.dtype)

        def per_head_sum(per_sample):  # (B, C) to (heads, C), over all replicas
            return sum_over_replicas(tf.matmul(member, per_sample, transpose_a=True))

        def per_sample(of_heads):  # (heads, C) to (B, C)
            return tf.matmul(member, of_heads)

        def spread(values):  # (B, C) to (B, 1, ..., C)
            return tf.reshape(values, [-1] + [1] * len(spatial) + [x.shape[-1]])

        count = sum_over_replicas(tf.reduce_sum(member, axis=0))[:, None] * pixels  # (heads, 1)
        divisor = tf.maximum(count, 1)
        mean = per_head_sum(tf.reduce_sum(x, spatial)) / divisor
        # Two passes: the difference of large means would lose the variance in float32.
        squares = tf.math.squared_difference(x, spread(per_sample(mean)))
        variance = per_head_sum(tf.reduce_sum(squares, spatial)) / divisor

        stopped_mean = tf.cast(self.moving_mean[:1], x.dtype)
        stopped_variance = tf.cast(self.moving_variance[:1], x.dtype)
        sample_mean = per_sample(mean) + frozen * stopped_mean
        sample_variance = per_sample(variance) + frozen * stopped_variance
        self._update(mean, variance, tf.cast(count > 0, x.dtype))

        scale = tf.math.rsqrt(sample_variance + self.epsilon)
        if self.scale:
            scale *= self._affine_rows(self.gamma, per_sample, frozen, x.dtype)
        offset = -sample_mean * scale
        if self.center:
            offset += self._affine_rows(self.beta, per_sample, frozen, x.dtype)
        return x * spread(scale) + spread(offset)

    def _affine_rows(self, weight, per_sample, frozen, dtype):
        weight = tf.cast(weight, dtype)
        if self.share_affine:
            return weight
        return per_sample(weight) + frozen * weight[:1]

    def _update(self, mean, variance, present):
        """Moves the statistics of the heads that are `present` (heads, 1); the others keep every bit."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            old = tf.cast(moving, batch.dtype)
            new = old * self.momentum + batch * (1.0 - self.momentum)
            moving.assign(tf.cast(tf.where(present > 0, new, old), moving.dtype))

    def get_config(self):
        return {
            **super().get_config(),
            "route_heads": self.route_heads,
            "share_affine": self.share_affine,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
        }
