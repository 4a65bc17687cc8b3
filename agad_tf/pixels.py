"""Pixels: decode, resize, crop and scale; the one definition, in NumPy, with Pillow where files are read.

Data, boards and servers' clients share it; the layer `ImagePreprocessing` is its twin in the graph,
tested equal.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agad_tf.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

PREPROCESSING = 2
"""Version of the resize of new models: 1 shrinks without antialiasing, 2 with. Saved models keep theirs."""

CROPS = ("stretch", "centre")
"""What a resize to another aspect does: distort the image, or cut out its centre first."""

IMAGE_SUFFIXES = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png")
"""Names of files that are taken for images, in lower case."""

MAX_PIXELS = 89_478_485
"""Larger images are refused before they are decoded: a file of some kilobytes can hold gigabytes of one
colour. The number is that from which Pillow warns."""

_ORIENTATION, _FIRST_TURNED = 0x0112, 5  # the EXIF tag, and the first of its values that swap the sides
_STRIPE = 512  # rows of a transparent image that are composited at once
_FORMATS = ("BMP", "JPEG", "PNG")
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, struct.error, zlib.error,
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
        InputError: no such file, not a readable image, or one of more than `MAX_PIXELS`; names the file.
    """
    return decode_image(Path(path), str(path), channels)


def decode_image(source: Path | bytes, name: str, channels: int | None = None) -> np.ndarray:
    """As `read_image`, from a file or from its bytes; `name` is what an error calls it."""
    from PIL import ImageOps  # a board that is given arrays needs no Pillow

    with _opened(source, name, whole=True) as image:
        ImageOps.exif_transpose(image, in_place=True)
        pixels = _pixels(image)
    return set_channels(pixels, channels)


def image_header(path: str | Path) -> tuple[tuple[int, int], bool]:
    """((height, width) and whether `read_image` would give one channel), from the header of a file.

    Raises:
        InputError: no such file, not a readable image, or one of too many pixels; names the file.
    """
    with _opened(Path(path), str(path)) as image:
        # Pillow decodes a PNG to look for orientation behind its pixels: there it is left alone.
        told = image.format != "PNG" or "exif" in image.info
        turned = told and image.getexif().get(_ORIENTATION, 1) >= _FIRST_TURNED
        return (image.width, image.height) if turned else (image.height, image.width), _is_grey(image)


def read_mask(path: str | Path) -> np.ndarray:
    """Reads a mask of defects by the numbers that its file stores, whatever they look like.

    Any number other than 0 is a defect: 255, a label of 1 in 8 or 16 bits, a palette's entry, a colour, the
    grey of a soft edge. In a JPEG, which does not keep numbers exactly, it is what is over half of the range.
    What is fully transparent is no defect. EXIF rotation is applied.

    Args:
        path: a JPEG, PNG or BMP file.

    Returns:
        bool (height, width), true where the defect is.

    Raises:
        InputError: as `read_image`.
    """
    from PIL import ImageOps

    with _opened(Path(path), str(path), whole=True) as image:
        least = 127 if image.format == "JPEG" else 0
        ImageOps.exif_transpose(image, in_place=True)
        values = np.asarray(image)
        seen = True
        if values.ndim == 3 and image.mode in ("LA", "PA", "RGBA"):
            values, seen = values[..., :-1], values[..., -1] > 0
    return ((values.max(axis=-1) if values.ndim == 3 else values) > least) & seen


def sixteen_bit_peak(path: str | Path) -> int | None:
    """The largest value of a grey image of 16 bits, decoded for it; None for every other kind of image.

    Raises:
        InputError: as `read_image`.
    """
    with _opened(Path(path), str(path)) as image:
        return int(np.asarray(image).max()) if image.mode.startswith("I") else None


@contextlib.contextmanager
def _opened(source: Path | bytes, name: str, whole: bool = False) -> Iterator[Image.Image]:
    """An image whose header was read; whatever is wrong with it, then or later, is one line.

    With `whole` the checksums of a PNG are compared first: Pillow decodes its pixels without.
    """
    from PIL import Image

    if isinstance(source, Path) and source.exists() and not source.is_file():
        # Reading a pipe or a device would wait for ever.
        raise InputError(
            f"{name}: expected an image file, received a folder, pipe, socket or device; remove it"
        )

    def opened():
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)

    try:
        with opened() as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{name}: expected at most {MAX_PIXELS} pixels, received {image.width} x {image.height}; "
                    "cut it into tiles, shrink it, or raise agad_tf.pixels.MAX_PIXELS"
                )
            if whole and image.format == "PNG":
                with opened() as other:  # one that was verified cannot be read any more
                    other.verify()
            yield image
    except InputError:
        raise
    except (*_DECODE_ERRORS, Image.DecompressionBombError, MemoryError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise InputError(
            f"{name}: expected a readable JPEG, PNG or BMP image, received: "
            f"{reason or type(error).__name__}; replace or remove the file"
        ) from error


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"more than 16 bits a pixel (values {values.min()} to {values.max()})")
        # The high byte, as libpng strips 16 bits to 8 and as Pillow already did for 16-bit colour.
        high = np.empty((*values.shape, 1), np.uint8)
        np.right_shift(values, 8, out=high[..., 0], casting="unsafe")
        return high
    grey = _is_grey(image)
    if image.has_transparency_data:
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        for top in range(0, image.height, _STRIPE):  # a whole photo three times over is more than it need be
            stripe = image.crop((0, top, image.width, min(top + _STRIPE, image.height)))
            pixels[top : top + _STRIPE] = _over_black(stripe)
        return pixels[..., :1].copy() if grey else pixels
    mode = "L" if grey else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if grey else pixels


def _over_black(image: Image.Image) -> np.ndarray:
    from PIL import Image

    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, image.convert("RGBA")).convert("RGB"))


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


def resize_antialiased(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resizes images bilinearly, over a whole output pixel where an axis shrinks.

    The twin of `tf.image.resize(images, size, "bilinear", antialias=True)`: along an axis that shrinks by s
    the triangle of the bilinear weights is s times as wide, and weights that fall outside of the image are
    made up for by the others. Along an axis that grows it is `resize_bilinear`.

    Args and returns: as `resize_bilinear`.
    """
    images = np.asarray(images)
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    if images.ndim in (3, 4) and 0 < height < images.shape[-3]:
        images = _shrunk(images, height, images.ndim - 3)
    if images.ndim in (3, 4) and 0 < width < images.shape[-2]:
        images = _shrunk(images, width, images.ndim - 2)
    return resize_bilinear(images, size)


def _shrunk(images: np.ndarray, after: int, axis: int) -> np.ndarray:
    """One axis of images shrunk, float32; few input rows are in memory as floats at once."""
    before = images.shape[axis]
    out = np.empty((*images.shape[:axis], after, *images.shape[axis + 1 :]), np.float32)
    scale = np.float32(before) / np.float32(after)
    for index in range(after):
        centre = (np.float32(index) + np.float32(0.5)) * scale
        first = max(0, int(np.ceil(centre - scale - np.float32(0.5))))
        last = min(before - 1, int(np.floor(centre + scale - np.float32(0.5))))
        places = np.arange(first, last + 1, dtype=np.float32) + np.float32(0.5)
        weights = np.maximum(0, 1 - np.abs(places - centre) / scale)
        weights /= weights.sum()
        span = images[(slice(None),) * axis + (slice(first, last + 1),)]
        mean = np.tensordot(weights.astype(np.float32), span.astype(np.float32), (0, axis))
        out[(slice(None),) * axis + (index,)] = mean
    return out


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
    top, left, height, width = crop_box(images.shape[-3:-1], size, "centre")
    return images[..., top : top + height, left : left + width, :]


def crop_box(image: tuple[int, int], size: tuple[int, int], crop: str) -> tuple[int, int, int, int]:
    """(top, left, height, width) of what is kept of an `image` (height, width) that is brought to `size`."""
    height, width = image
    if crop != "centre":
        return 0, 0, height, width
    high, wide = size
    inner_height = max(1, min(height, (2 * width * high + wide) // (2 * wide)))
    inner_width = max(1, min(width, (2 * height * wide + high) // (2 * high)))
    return (height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width


def preprocess(
    images: np.ndarray,
    image_size: tuple[int, int],
    value_range: tuple[float, float] = (-1.0, 1.0),
    crop: str = "stretch",
    version: int = PREPROCESSING,
) -> np.ndarray:
    """uint8 images of any size to what the networks take; the twin of the layer `ImagePreprocessing`.

    Args:
        images: uint8 (n, height, width, channels) or (height, width, channels).
        image_size: (height, width) of the result.
        value_range: the values that 0 and 255 are mapped to.
        crop: "stretch" resizes the whole image, "centre" its largest window of the new aspect.
        version: 1 shrinks without antialiasing, 2 with.

    Returns:
        float32, same rank, in `value_range`.
    """
    resize = resize_bilinear if version == 1 else resize_antialiased
    low, high = value_range
    if crop == "centre":
        images = centre_crop(images, image_size)
    return resize(images, image_size) * np.float32((high - low) / 255.0) + np.float32(low)


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
