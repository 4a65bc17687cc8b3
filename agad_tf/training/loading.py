"""The samples of a run: from the source its configuration names, as the detector takes them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agad_tf.data.rows import ArrayStore, LazyRows
from agad_tf.data.sources.file_store import FileStore
from agad_tf.data.sources.images import MixedSizesError
from agad_tf.data.sources.load import Samples, check_size, load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.data.sources.shards import read_manifest
from agad_tf.encoding import TableEncoding
from agad_tf.features.layer import LARGEST

LARGEST_DEFAULT_SIDE = 128
"""Larger images are resized to it unless an image size is given; the AGAD paper's size for medical images."""

PIXELS_FOR_FEATURES = 240 * 320
"""Photographs of more pixels are shrunk to so many for detectors on features, their sides in proportion."""

KEPT_AS_STORED = 64 * 2**20
"""Bytes of pixels up to which the images of files are held at the size they are stored at."""


def load(
    source: str | Path,
    *,
    channels: int | None = None,
    image_size: int | Sequence[int] | None = None,
    crop: str = "stretch",
    cache: str | Path | None = None,
    normal_classes: Sequence[int | str] | None = None,
    group: str | None = None,
    backbone: str | None = None,
    label_column: str | int | None = None,
    columns: Sequence[str] | None = None,
    missing: str = "refuse",
    encoding: TableEncoding | None = None,
) -> Samples:
    """Reads a source as a detector takes it.

    Images come at the size they are stored at, and the detector resizes them. Those of files that differ in
    size, or that would take more than `KEPT_AS_STORED` bytes, are brought to the size the detector works at
    as they are read, by the same resize and crop but rounded to 8 bits; smaller ones are not enlarged.

    Args:
        source: see `agad_tf.load_samples`.
        channels: 1, 3 or None.
        image_size: (height, width) or one number that the detector works at; None for its default.
        crop: "stretch" or "centre".
        cache: None; "memory", which reads shards into memory once; or a folder, in which the source is
            prepared as shards once and read from in this and later runs.
        normal_classes: names or indices, for a cache folder of a source that does not name them.
        group: which files belong together, see `agad_tf.load_samples`.
        backbone: of the detector, which decides its default size; None where that is not known.
        label_column, columns, missing, encoding: of tables, see `agad_tf.load_samples`.

    Raises:
        InputError: see `agad_tf.load_samples` and `agad_tf.data.sources.prepare.prepare`.
    """
    size = check_size(image_size)
    if cache is not None and str(cache) != "memory":
        return _from_cache(source, Path(cache), channels, size, crop, normal_classes, group)
    samples = load_samples(
        source,
        channels=channels,
        group=group,
        crop=crop,
        lazy=True,
        label_column=label_column,
        columns=columns,
        missing=missing,
        encoding=encoding,
    )
    if not isinstance(samples.x, LazyRows):
        return samples
    if isinstance(samples.x.store, FileStore):
        return replace(samples, x=LazyRows(_held(samples.x.store, size, backbone)))
    return samples if cache is None else replace(samples, x=np.asarray(samples.x))


def _held(store: FileStore, size: tuple[int, int] | None, backbone: str | None) -> ArrayStore:
    """The images of files in memory: as stored where they are few or small, else at the detector's size."""
    store.check_depth()
    try:
        stored = store.shape[1:3]
    except MixedSizesError:
        if size is None:
            raise
        return store.in_memory(size)
    if size is None and backbone is not None:
        size = default_image_size(stored, backbone)
    large = int(np.prod(store.shape, dtype=np.int64)) > KEPT_AS_STORED
    shrinks = size is not None and size[0] <= stored[0] and size[1] <= stored[1]
    return store.in_memory(size if large and shrinks else stored)


def default_image_size(stored: tuple[int, int], backbone: str) -> tuple[int, int]:
    """The size that a detector works at where none is given.

    Of networks on pixels the smallest from 32 up that loses no pixel, at most 128. Pixels as they are (pca,
    neighbours) are looked at up to 64 a side; features up to about 240×320, the sides in proportion: small
    defects are lost first where photographs are squeezed into a square.
    """
    if backbone in ("pca", "neighbours"):
        return tuple(min(side, 64) for side in stored)
    if backbone in ("features", "mahalanobis", "nearest_patches"):
        scale = min(1.0, math.sqrt(PIXELS_FOR_FEATURES / math.prod(stored)), LARGEST / max(stored))
        # Tiny images are enlarged: on grids of fewer than 12×12 patches there is little to tell apart.
        return tuple(max(96, round(scale * side / 16) * 16) for side in stored)
    if backbone not in ("unet", "unet_plus_plus"):  # the others take squares whose side is a power of 2
        side = 32
        while side < min(max(stored), LARGEST_DEFAULT_SIDE):
            side *= 2
        return side, side
    return tuple(min(max(32, -(-side // 16) * 16), LARGEST_DEFAULT_SIDE) for side in stored)


def _from_cache(source, folder, channels, size, crop, normal_classes, group) -> Samples:
    settings = {"channels": channels, "normal_classes": normal_classes, "group": group}
    try:
        prepare(source, folder, **settings)
    except MixedSizesError:
        if size is None:
            raise
        prepare(source, folder, **settings, image_size=size, crop=crop)
    samples = load_samples(folder)
    # A source that does not name its normal classes is asked for them; the cache must not change that.
    return samples if read_manifest(folder)["named_by_source"] else replace(samples, normal_classes=None)
