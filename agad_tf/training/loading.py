"""The samples of a run: from the source its configuration names, as the detector takes them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agad_tf.data.rows import LazyRows
from agad_tf.data.sources.images import MixedSizesError
from agad_tf.data.sources.load import Samples, load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.data.sources.shards import read_manifest


def load(
    source: str | Path,
    *,
    channels: int | None = None,
    image_size: int | Sequence[int] | None = None,
    crop: str = "stretch",
    cache: str | Path | None = None,
    normal_classes: Sequence[int | str] | None = None,
) -> Samples:
    """Reads a source at the size it is stored at; the detector resizes.

    Where the images of a source differ in size they are brought to `image_size` on reading, by the same
    resize and crop but rounded to 8 bits, since one array holds one size.

    Args:
        source: see `agad_tf.load_samples`.
        channels: 1, 3 or None.
        image_size: (height, width) or one number, for images that differ in size.
        crop: "stretch" or "centre", for them.
        cache: None; "memory", which reads shards into memory once; or a folder, in which the source is
            prepared as shards once and read from in this and later runs.
        normal_classes: names or indices, for a cache folder of a source that does not name them.

    Raises:
        InputError: see `agad_tf.load_samples` and `agad_tf.data.sources.prepare.prepare`.
    """
    size = tuple(image_size) if isinstance(image_size, list | tuple) else image_size
    if cache is not None and str(cache) != "memory":
        return _from_cache(source, Path(cache), channels, size, crop, normal_classes)
    try:
        samples = load_samples(source, channels=channels)
    except MixedSizesError:
        if size is None:
            raise
        samples = load_samples(source, channels=channels, image_size=size, crop=crop)
    if cache is not None and isinstance(samples.x, LazyRows):
        samples = replace(samples, x=np.asarray(samples.x))
    return samples


def _from_cache(source, folder, channels, size, crop, normal_classes) -> Samples:
    settings = {"channels": channels, "normal_classes": normal_classes}
    try:
        prepare(source, folder, **settings)
    except MixedSizesError:
        if size is None:
            raise
        prepare(source, folder, **settings, image_size=size, crop=crop)
    samples = load_samples(folder)
    # Whether a source names its normal classes decides what a split takes; the cache must not change that.
    return samples if read_manifest(folder)["named_by_source"] else replace(samples, normal_classes=None)
