"""Many images, from files or arrays, as one array of uint8 pixels; `agad_tf.pixels` decodes one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from agad_tf.errors import InputError
from agad_tf.pixels import CROPS, centre_crop, resize_antialiased, resize_bilinear
from agad_tf.pixels import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from agad_tf.pixels import decode_image as decode_image
from agad_tf.pixels import read_image as read_image
from agad_tf.pixels import set_channels as set_channels

_CHUNK = 256  # images decoded ahead of the writer, and images resized at once: bounds the memory
_PROGRESS_FROM = 1000


class MixedSizesError(InputError):
    """Images of several sizes where one array is to hold them; an image size to resize them to helps."""


def check_crop(crop: str) -> None:
    """Refuses what is neither "stretch" nor "centre"."""
    if crop not in CROPS:
        raise InputError(f"crop expects one of {', '.join(CROPS)}, received {crop!r}")


def resize_uint8(
    images: np.ndarray, size: tuple[int, int], crop: str = "stretch", antialias: bool = True
) -> np.ndarray:
    """Bilinear resize of uint8 (..., h, w, c), rounded back to uint8; a few images at a time."""
    resize = resize_antialiased if antialias else resize_bilinear
    if crop == "centre":
        images = centre_crop(images, size)
    if images.shape[-3:-1] == size:
        return images
    if images.ndim == 3:
        return np.rint(resize(images, size)).astype(np.uint8)
    out = np.empty((len(images), *size, images.shape[-1]), np.uint8)
    for start in range(0, len(images), _CHUNK):
        out[start : start + _CHUNK] = np.rint(resize(images[start : start + _CHUNK], size))
    return out


def decode_all(
    count: int,
    decode: Callable[[int], np.ndarray],
    name: Callable[[int], str],
    image_size: tuple[int, int] | None,
    channels: int | None,
    crop: str = "stretch",
) -> np.ndarray:
    """Decodes many images in parallel into one array, with a progress bar on stderr for many.

    Args:
        count: number of images.
        decode: index to uint8 (h, w, 1 or 3); called from several threads.
        name: index to the file name that errors give.
        image_size: (height, width) each image is resized to, or None: all must be of one size.
        channels: 1 or 3, or None: 1 where every image is grey, else 3.
        crop: what `image_size` does to another aspect, "stretch" or "centre".

    Returns:
        uint8 (count, height, width, channels).

    Raises:
        InputError: an unreadable image, or mixed sizes without `image_size`.
    """

    def one(index: int) -> np.ndarray:
        pixels = set_channels(decode(index), channels)
        return pixels if image_size is None else resize_uint8(pixels, image_size, crop)

    out: np.ndarray | None = None
    for index, pixels in enumerate(decode_each(count, one)):
        if out is None:
            out = np.empty((count, *pixels.shape), np.uint8)
        if pixels.shape[:2] != out.shape[1:3]:
            raise MixedSizesError(
                f"{name(index)}: expected {size_text(out.shape[1:3])} (height x width) as in {name(0)}, "
                f"received {size_text(pixels.shape[:2])}; pass an image size to resize all images"
            )
        if pixels.shape[-1] > out.shape[-1]:
            out = np.repeat(out, 3, axis=-1)
        out[index] = pixels  # one grey channel broadcasts over three
    if out is None:
        raise InputError("expected at least one image, received none")
    return out


def decode_each(count: int, one: Callable[[int], Any]) -> Iterator[Any]:
    """What `one` gives for 0, 1, ..., in order; in parallel, with a progress bar on stderr for many."""
    bar = tqdm(
        total=count,
        desc="reading images",
        unit="image",
        file=sys.stderr,
        disable=count <= _PROGRESS_FROM,
        leave=False,
        mininterval=1,
    )
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, bar:
        for start in range(0, count, _CHUNK):
            block = range(start, min(start + _CHUNK, count))
            yield from pool.map(one, block)
            bar.update(len(block))


def size_text(shape: tuple[int, ...]) -> str:
    """'height x width' of a shape."""
    return f"{shape[0]} x {shape[1]}"


def image_array(
    x: np.ndarray,
    what: str,
    image_size: tuple[int, int] | None,
    channels: int | None,
    crop: str = "stretch",
) -> np.ndarray:
    """An array of images to uint8 (n, h, w, c).

    Integers are taken as 0..255, booleans as 0 and 255, floats as [0, 1] (times 255, rounded).

    Raises:
        InputError: another shape or range, NaN or infinity; names the array `what`.
    """
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[-1] not in (1, 3) or 0 in x.shape[1:]:
        raise InputError(
            f"{what}: expected images (n, height, width) or (n, height, width, channels) with 1 or 3 "
            f"channels, received shape {x.shape}; put the channels last"
        )
    if x.dtype == np.bool_:
        x = x.astype(np.uint8) * 255
    elif x.dtype.kind in "iu" and x.dtype != np.uint8:
        if x.size and (x.min() < 0 or x.max() > 255):
            raise InputError(
                f"{what}: expected integer pixels from 0 to 255, received {x.min()} to {x.max()}; rescale "
                "the images"
            )
        x = x.astype(np.uint8)
    elif x.dtype.kind == "f":
        bad = np.count_nonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
        if bad:
            raise InputError(
                f"{what}: expected finite pixels, received NaN or infinity in {bad} of {len(x)} images; mend "
                "or remove these images"
            )
        if x.size and (x.min() < 0 or x.max() > 1):
            raise InputError(
                f"{what}: expected float pixels in [0, 1], received {x.min():.6g} to {x.max():.6g}; rescale "
                "to [0, 1] or store uint8"
            )
        x = np.rint(x.astype(np.float32) * 255).astype(np.uint8)
    elif x.dtype != np.uint8:
        raise InputError(
            f"{what}: expected pixels as integers 0..255 or floats in [0, 1], received dtype {x.dtype}"
        )
    x = set_channels(x, channels)
    return x if image_size is None else resize_uint8(x, image_size, crop)
