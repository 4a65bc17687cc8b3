"""Image classification sets of TensorFlow Datasets, by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from agad_tf.data.samples import Samples, normal_by_name
from agad_tf.data.sources.images import MixedSizesError, resize_uint8, set_channels
from agad_tf.errors import InputError

_PARTS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def load_tfds(
    name: str,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    crop: str = "stretch",
) -> Samples:
    """Reads a set into memory, in the order that it is stored in.

    The set is prepared (and, where that needs it, downloaded) first if it is not yet in TFDS's data folder,
    which is `~/tensorflow_datasets` or what the environment variable TFDS_DATA_DIR says. Its splits train,
    validation and test become the parts; a set without a test split is taken without parts.

    Args:
        name: as `tfds.builder` takes it, without the leading "tfds:": "mnist", "cifar10/3p", "beans:0.1.0".
        image_size: (height, width), needed where images differ in size.
        channels: 1, 3 or None for what the set holds.
        crop: what `image_size` does to another aspect, "stretch" or "centre".

    Raises:
        InputError: TFDS is not installed, no such set, or one that has no image and no class label.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(
            f"tfds:{name}: expected TensorFlow Datasets, found it not installed: pip install 'agad-tf[tfds]'"
        ) from None
    try:
        builder = tfds.builder(name)
        builder.download_and_prepare()
    except Exception as error:  # whatever a builder, its download or its files raise
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"tfds:{name}: expected a set that TensorFlow Datasets can prepare, received "
            f"{type(error).__name__}: {reason}; check the name, and the network where it is downloaded"
        ) from error
    image_key, label_key = _keys(name, tfds, builder.info.features)
    labels = builder.info.features[label_key]
    splits = {split: _PARTS[split] for split in builder.info.splits if split in _PARTS}
    if "test" not in splits:
        splits = {split: "" for split in builder.info.splits if builder.info.splits[split].num_examples}
    images, classes, parts = [], [], []
    for split, part in splits.items():
        # One file after the other: the same order each time.
        config = tfds.ReadConfig(interleave_cycle_length=1)
        stored = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
        for row in tfds.as_numpy(stored):
            images.append(_image(row[image_key], f"tfds:{name} {split}", image_size, channels, crop))
            classes.append(int(row[label_key]))
            parts.append(part)
            if images[-1].shape != images[0].shape:
                raise MixedSizesError(
                    f"tfds:{name} {split}: expected images of {images[0].shape} as the first, received "
                    f"{images[-1].shape}; pass an image size to resize all images"
                )
    if not images:
        raise InputError(f"tfds:{name}: expected images, received an empty set")
    class_names = tuple(labels.names)
    return Samples(
        builder.info.name,
        np.stack(images),
        np.array(classes, np.int64),
        class_names,
        part=None if "" in parts else np.array(parts),
        normal_classes=normal_by_name(class_names),
    )


def _keys(name: str, tfds: Any, features: Any) -> tuple[str, str]:
    """The one image and the one class label among the features."""
    found = []
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        keys = [key for key, feature in features.items() if isinstance(feature, kind)]
        if not keys:
            raise InputError(
                f"tfds:{name}: expected an image and a class label, received the features "
                f"{', '.join(features)}; choose an image classification set"
            )
        found.append("label" if "label" in keys else keys[0])
    return found[0], found[1]


def _image(
    pixels: np.ndarray, what: str, size: tuple[int, int] | None, channels: int | None, crop: str
) -> np.ndarray:
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)  # the high byte, as from 16-bit files
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4):
        raise InputError(f"{what}: expected uint8 images, received {pixels.dtype} of shape {pixels.shape}")
    if pixels.shape[-1] == 4:  # transparent pixels over black, as from files
        alpha = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * alpha + 127) // 255).astype(np.uint8)
    pixels = set_channels(pixels, channels)
    return pixels if size is None else resize_uint8(pixels, size, crop)
