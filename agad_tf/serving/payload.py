"""Image files as the signature `score_encoded` takes them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from agad_tf.errors import InputError
from agad_tf.pixels import decode_image

LARGEST_SAMPLE = 128 * 1024**2
"""Bytes of the largest image that is sent at all."""

_ORIENTATION = 0x0112
# A PNG that holds none of these has no orientation that Pillow would apply.
_PNG_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp", b"tRNS")


def encoded_image(source: str | Path | bytes, name: str | None = None) -> bytes:
    """JPEG or PNG bytes that a server decodes to the pixels of `agad_tf.pixels.read_image`.

    The file is decoded here too: what cannot be read is told here, by name, and not by a server that has a
    whole batch. Its bytes are passed on as they are where both decoders agree on them (grey or colour, 8
    bits, upright); everything else (BMP, palettes, transparency, other depths, EXIF rotation, CMYK) becomes a
    PNG of its pixels, without loss.

    Args:
        source: path, or the file's bytes.
        name: what an error calls it; None for the path.

    Raises:
        InputError: no such file, not a readable image, or larger than `LARGEST_SAMPLE`.
    """
    source = source if isinstance(source, bytes) else Path(source)
    name = name or str(source)
    pixels = decode_image(source, name)
    data = source if isinstance(source, bytes) else source.read_bytes()
    data = data if _plain(data) else png(pixels)
    if len(data) > LARGEST_SAMPLE:
        raise InputError(
            f"{name}: expected an image file of at most {LARGEST_SAMPLE >> 20} MiB, received "
            f"{len(data) >> 20} MiB: make it smaller"
        )
    return data


def png(pixels: np.ndarray) -> bytes:
    """uint8 (height, width, 1 or 3) as PNG, quickly."""
    stream = io.BytesIO()
    image = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _plain(data: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode not in ("L", "RGB"):
            return False
        if image.format == "JPEG":
            return image.getexif().get(_ORIENTATION, 1) == 1
        # Bytes 24 and 25 are depth and colour type: Pillow shows 2 and 4 bits as 8.
        known = image.format == "PNG" and data[24] == 8 and data[25] in (0, 2)
        return known and not any(mark in data for mark in _PNG_METADATA)
