"""What is sent: arrays as the signature `serving_default` takes them, image files as `score_encoded` does."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from agad_tf.data.sources.tables import table_array
from agad_tf.encoding import TableEncoding
from agad_tf.errors import InputError
from agad_tf.pixels import decode_image

LARGEST_SAMPLE = 128 * 1024**2
"""Bytes of the largest image that is sent at all."""

ROW_TYPES = {"DT_DOUBLE": np.float64, "DT_FLOAT": np.float32}
"""Of tables, as a signature calls them; exports of before take float32."""

_ORIENTATION = 0x0112
# A PNG that holds none of these has no orientation that Pillow would apply.
_PNG_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp", b"tRNS")


def checked(samples: np.ndarray, form: dict, encoding: TableEncoding | None) -> np.ndarray:
    """The samples as the signature takes them, or InputError."""
    shape = form["shape"]
    if form["dtype"] in ROW_TYPES:
        rows = table_array(samples, "rows", encoding=encoding).astype(ROW_TYPES[form["dtype"]])
        if rows.shape[1] != shape[1]:
            raise InputError(
                f"expected rows of {shape[1]} columns, received {rows.shape[1]}: check the table"
            )
        return rows
    received = samples.shape
    if samples.ndim == 3 and shape[-1] == 1:
        samples = samples[..., None]
    if samples.ndim != 4 or samples.shape[-1] != shape[-1] or 0 in samples.shape:
        raise InputError(f"expected images (n, height, width, {shape[-1]}), received shape {received}")
    if samples.dtype != np.uint8:
        raise InputError(f"expected uint8 images, 0 to 255, received {samples.dtype}: convert them")
    if samples[0].nbytes > LARGEST_SAMPLE:
        raise InputError(
            f"expected images of at most {LARGEST_SAMPLE >> 20} MiB, received {samples[0].nbytes >> 20} MiB: "
            "make them smaller"
        )
    return samples


def encoded(files: Iterable[str | Path | bytes]) -> Iterator[bytes | InputError]:
    """What is sent for each file, or why nothing is."""
    for index, file in enumerate(files):
        try:
            yield encoded_image(file, f"image {index}" if isinstance(file, bytes) else None)
        except InputError as error:
            yield error


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
