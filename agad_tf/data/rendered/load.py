"""Rendered photographs as `Samples`."""

from __future__ import annotations

import functools

import numpy as np

from agad_tf.data.rendered.photos import NORMAL, OBJECTS, Photos, render
from agad_tf.data.samples import Samples
from agad_tf.data.sources.images import image_array
from agad_tf.errors import InputError

PREFIX = "photos:"
STANDARD = {"n_normal": 200, "seed": 0, "size": (480, 640), "photos_per_part": 2}
PER_KIND = 20


def as_samples(
    photos: Photos, image_size: tuple[int, int] | None = None, channels: int | None = None
) -> Samples:
    """Photographs with their classes, masks and groups, resized where `image_size` (height, width) says so.

    The classes are "normal" and the kinds of defects; the source gives no split of its own.
    """
    kinds = sorted(set(photos.kinds.tolist()) - {NORMAL})
    names = (NORMAL, *kinds)
    classes = np.array([names.index(kind) for kind in photos.kinds.tolist()], np.int64)
    masks = tuple(mask if row else None for mask, row in zip(photos.masks, classes, strict=True))
    x = image_array(photos.images, photos.name, image_size, channels)
    return Samples(photos.name, x, classes, names, normal_classes=(0,), masks=masks, group=photos.groups)


def load_photos(name: str, image_size: tuple[int, int] | None = None, channels: int | None = None) -> Samples:
    """The standard set of an object: 200 photographs of good parts and 20 of each kind of defect, 480 x 640.

    The arrays are kept for the next call and cannot be written to: change a copy.

    Raises:
        InputError: an unknown object.
    """
    if name not in OBJECTS:
        known = ", ".join(PREFIX + known for known in OBJECTS)
        raise InputError(f"expected one of {known}, received '{PREFIX}{name}'")
    return as_samples(_standard(name, PER_KIND, tuple(sorted(STANDARD.items()))), image_size, channels)


@functools.lru_cache(maxsize=1)  # a run, its comparison and its export want the same ones
def _standard(name: str, per_kind: int, settings: tuple) -> Photos:
    photos = render(name, defects=dict.fromkeys(OBJECTS[name], per_kind), **dict(settings))
    for array in (photos.images, photos.masks):
        array.flags.writeable = False
    return photos
