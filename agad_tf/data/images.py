"""Image files and arrays to uint8 pixels: the one place that decodes."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from agad_tf.edge import CROPS, centre_crop, resize_bilinear
from agad_tf.errors import InputError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")
_FORMATS = ("BMP", "JPEG", "PNG")
_CHUNK = 256  # images decoded ahead of the writer, and images resized at once: bounds the memory
_PROGRESS_FROM = 1000
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip


class MixedSizesError(InputError):
    """Images of several sizes where one array is to hold them; an image size to resize them to helps."""


def read_image(path: str | Path, channels: int | None = None) -> np.ndarray:
    """Decodes one JPEG, PNG or BMP file.

    EXIF rotation is applied. Transparent pixels are composited over black. 16-bit grey keeps its high byte
    (value // 256). Palette, CMYK and other colour modes become RGB; of an animation the first frame is read.

    Args:
        path: the file.
        channels: 1 (colour becomes ITU-R 601 luma), 3 (grey is repeated), or None: 1 for grey files, else 3.

    Returns:
        uint8 (height, width, channels), 0..255.

    Raises:
        InputError: no such file, or not a readable image; names the file.
    """
    return decode_image(Path(path), str(path), channels)


def decode_image(source: Path | bytes, name: str, channels: int | None = None) -> np.ndarray:
    """As `read_image`, from a file or from its bytes; `name` is what an error calls it."""
    try:
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS
        ) as image:
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _pixels(image)
    except _DECODE_ERRORS as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise InputError(
            f"{name}: expected a readable JPEG, PNG or BMP image, received: {reason}; replace or remove the "
            "file"
        ) from error
    return set_channels(pixels, channels)


def image_is_grey(path: str | Path) -> bool:
    """Whether `read_image` would give one channel; also true of what it cannot read. Decodes nothing."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _is_grey(image)
    except _DECODE_ERRORS:
        return True


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"more than 16 bits a pixel (values {values.min()} to {values.max()})")
        # The high byte, as libpng strips 16 bits to 8 and as Pillow already did for 16-bit colour.
        return (values >> 8).astype(np.uint8)[..., None]
    grey = _is_grey(image)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        pixels = np.asarray(Image.alpha_composite(black, image.convert("RGBA")).convert("RGB"))
        return pixels[..., :1].copy() if grey else pixels
    mode = "L" if grey else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if grey else pixels


def set_channels(images: np.ndarray, channels: int | None) -> np.ndarray:
    """Changes uint8 (..., 1 or 3) to `channels`; grey is repeated, colour becomes ITU-R 601 luma."""
    if channels not in (None, 1, 3):
        raise InputError(
            f"expected channels 1 or 3, received {channels}; leave it out to keep what the images have"
        )
    if channels is None or images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    # Fixed-point weights in 1/65536, rounded: what Pillow's own conversion to grey computes.
    weights = np.array([19595, 38470, 7471], np.uint32)
    return ((images.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)[..., None]


def check_crop(crop: str) -> None:
    """Refuses what is neither "stretch" nor "centre"."""
    if crop not in CROPS:
        raise InputError(f"crop expects one of {', '.join(CROPS)}, received {crop!r}")


def resize_uint8(images: np.ndarray, size: tuple[int, int], crop: str = "stretch") -> np.ndarray:
    """Bilinear resize of uint8 (..., h, w, c), rounded back to uint8; a few images at a time."""
    if crop == "centre":
        images = centre_crop(images, size)
    if images.shape[-3:-1] == size:
        return images
    if images.ndim == 3:
        return np.rint(resize_bilinear(images, size)).astype(np.uint8)
    out = np.empty((len(images), *size, images.shape[-1]), np.uint8)
    for start in range(0, len(images), _CHUNK):
        out[start : start + _CHUNK] = np.rint(resize_bilinear(images[start : start + _CHUNK], size))
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
            for index, pixels in zip(block, pool.map(one, block), strict=True):
                if out is None:
                    out = np.empty((count, *pixels.shape), np.uint8)
                if pixels.shape[:2] != out.shape[1:3]:
                    raise MixedSizesError(
                        f"{name(index)}: expected {_size(out.shape[1:3])} (height x width) as in {name(0)}, "
                        f"received {_size(pixels.shape[:2])}; pass an image size to resize all images"
                    )
                if pixels.shape[-1] > out.shape[-1]:
                    out = np.repeat(out, 3, axis=-1)
                out[index] = pixels  # one grey channel broadcasts over three
            bar.update(len(block))
    if out is None:
        raise InputError("expected at least one image, received none")
    return out


def _size(shape: tuple[int, ...]) -> str:
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
