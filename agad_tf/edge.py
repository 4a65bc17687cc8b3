"""Preprocessing for machines that run an exported model with NumPy alone."""

from __future__ import annotations

import numpy as np

CROPS = ("stretch", "centre")
"""What a resize to another aspect does: distort the image, or cut out its centre first."""


def resize_bilinear(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resizes images bilinearly with half-pixel centres and without antialiasing.

    The twin of `tf.image.resize(images, size, "bilinear", antialias=False)`: output pixel i reads the input
    at (i + 0.5) * input_size / output_size - 0.5, and neighbours outside of the image are the border pixels.

    Args:
        images: (n, height, width, channels) or (height, width, channels), any numeric dtype and range.
        size: new (height, width); one number stands for both.

    Returns:
        float32, same rank and range as `images`, not rounded.

    Raises:
        ValueError: wrong rank, an empty image, or a size under 1.
    """
    images = np.asarray(images)
    if images.ndim not in (3, 4) or 0 in images.shape[-3:]:
        raise ValueError(
            "resize_bilinear expects images (n, h, w, c) or (h, w, c) with h, w, c > 0, received shape "
            f"{images.shape}"
        )
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    if height < 1 or width < 1:
        raise ValueError(f"resize_bilinear expects a size of at least 1 x 1, received {height} x {width}")
    left, right, weight = _taps(images.shape[-2], width)
    columns = images[..., left, :].astype(np.float32)
    columns += (images[..., right, :].astype(np.float32) - columns) * weight[:, None]
    top, bottom, weight = _taps(images.shape[-3], height)
    rows = columns[..., top, :, :]
    rows += (columns[..., bottom, :, :] - rows) * weight[:, None, None]
    return rows


def centre_crop(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest window in the middle of images that has the aspect of `size`.

    Its longer side is the image's, the other rounded to the nearest pixel; an odd rest leaves one pixel more
    at the bottom and right.

    Args:
        images: (..., height, width, channels).
        size: (height, width) whose aspect is kept.

    Returns:
        A view of `images`, (..., cropped height, cropped width, channels).
    """
    height, width = images.shape[-3:-1]
    high, wide = size
    inner_height = max(1, min(height, (2 * width * high + wide) // (2 * wide)))
    inner_width = max(1, min(width, (2 * height * wide + high) // (2 * high)))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return images[..., top : top + inner_height, left : left + inner_width, :]


def preprocess(
    images: np.ndarray,
    image_size: tuple[int, int],
    value_range: tuple[float, float] = (-1.0, 1.0),
    crop: str = "stretch",
) -> np.ndarray:
    """uint8 images of any size to what the networks take; the twin of the layer `ImagePreprocessing`.

    Args:
        images: uint8 (n, height, width, channels) or (height, width, channels).
        image_size: (height, width) of the result.
        value_range: the values that 0 and 255 are mapped to.
        crop: "stretch" resizes the whole image, "centre" its largest window of the new aspect.

    Returns:
        float32, same rank, in `value_range`.
    """
    low, high = value_range
    if crop == "centre":
        images = centre_crop(images, image_size)
    return resize_bilinear(images, image_size) * np.float32((high - low) / 255.0) + np.float32(low)


def _taps(before: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the two source pixels of each target pixel, and the weight of the second."""
    # float32 throughout, as in TensorFlow's kernel: in float64 a source position that is whole in one
    # arithmetic can fall just under it in the other.
    scale = np.float32(before) / np.float32(after)
    source = (np.arange(after, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(source)
    low = np.clip(floor, 0, before - 1).astype(np.intp)
    high = np.clip(np.ceil(source), 0, before - 1).astype(np.intp)
    return low, high, source - floor
