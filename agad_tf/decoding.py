"""Image files and their bytes to uint8 pixels, with NumPy and Pillow alone: the one place that decodes."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from agad_tf.errors import InputError

_FORMATS = ("BMP", "JPEG", "PNG")
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip


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
