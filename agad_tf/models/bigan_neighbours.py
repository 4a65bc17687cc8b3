"""AA-BiGAN beside the nearest normals, for tables: ours, not the paper's."""

import keras
import numpy as np
import tensorflow as tf

from agad_tf.encoding import TableEncoding
from agad_tf.errors import InputError
from agad_tf.models.aa_bigan import AABiGAN
from agad_tf.models.inputs import whole_number
from agad_tf.models.kept_normals import KeptNormals

WEIGHT = 2.0
"""Of the distance in the fused score. Networks redraw few training rows too well, and what is standardised on
them is too large on others; chosen on validation parts (docs/results/six_tables.md)."""


@keras.saving.register_keras_serializable("agad_tf")
class AABiGANNeighbours(KeptNormals, AABiGAN):
    """AA-BiGAN on the rows of a table, whose score also asks how far the nearest normals are.

    Trained as `AABiGAN`, whose networks and settings it has. What a generator redraws well need not be
    normal, and what is far from every normal seen need not be redrawn badly: the two scores err on
    different rows, and the distance does not depend on how a training ended.

    Args:
        input_shape: (features,).
        latent_dim, seed, clip, encoding: as in `AABiGAN`.
        score: "reconstruction" is ‖x − G(E(x))‖, which ranks as the paper's square does; "distance" that to
            the k-th nearest training normal, over scaled values; "fused" the error and twice the distance,
            each standardised on training normals. "auto" is "fused", with `compile(literal=True)`
            "reconstruction".
        k: which neighbour, at least 1. A training normal is its own nearest one.

    Attributes:
        normals: the normals kept, scaled, (n, values); of more than 64 MB as many as that, drawn.

    Raises:
        InputError: images, k below 1, an unknown name.
    """

    score_names = ("reconstruction", "distance")
    takes_images = False

    def __init__(
        self,
        input_shape,
        latent_dim: int | None = None,
        score: str = "auto",
        k: int = 5,
        seed: int = 0,
        clip: float | None = 0.5,
        encoding: TableEncoding | None = None,
        **kwargs,
    ):
        if len(tuple(input_shape)) != 1:
            raise InputError(
                f"AABiGANNeighbours expects rows (features,), received images of shape {tuple(input_shape)}: "
                "take AABiGAN"
            )
        super().__init__(
            input_shape,
            latent_dim=latent_dim,
            score=score,
            seed=seed,
            clip=clip,
            encoding=encoding,
            **kwargs,
        )
        self.k = whole_number(k, "k")

    def raw_score(self, name, x, training=False):
        if name == "distance":
            return tf.norm(self.away(x), axis=-1)
        return tf.sqrt(super().raw_score(name, x, training))

    def prepare_scoring(self, normals=None, batch_size=256):
        super().prepare_scoring(normals, batch_size)
        self.score_deviations.assign(self.score_deviations / np.array([1.0, WEIGHT], np.float32))

    def choose_score(self, has_anomalies):
        return "reconstruction" if self.settings.get("literal") else "fused"

    def _adapt(self, normals):
        super()._adapt(normals)
        self.keep(normals)
        self._forget_traces()  # they were traced for the normals before

    @property
    def scoring_state(self):
        kept = ("normals",) if "distance" in self.parts_of_score else ()
        return (*super().scoring_state, *kept)

    @property
    def outside_parts(self):
        """See `agad_tf.export.recipe`."""
        return {"reconstruction": ("root_of_squares", "reconstruction"), "distance": ("length", "away")}

    def outside_outputs(self, x):
        """See `agad_tf.export.recipe`."""
        found = {}
        if "reconstruction" in self.parts_of_score:
            code = self.scoring_encoder(x, training=False)
            found["reconstruction"] = self.scoring_generator(code, training=False)
        if "distance" in self.parts_of_score:
            found["away"] = self.away(x)
        return found

    def get_config(self):
        config = super().get_config() | {"k": self.k}
        return {name: value for name, value in config.items() if name not in ("backbone", "crop")}
