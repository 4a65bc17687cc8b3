"""Images that stay in their files, in formats of all kinds, until they are asked for."""

from __future__ import annotations

import contextlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from agad_tf.data.content import content_digest
from agad_tf.data.rows import ArrayStore
from agad_tf.data.sources.images import MixedSizesError, decode_all, decode_each, resize_uint8, size_text
from agad_tf.data.sources.listing import Listing
from agad_tf.data.sources.shards import encoded
from agad_tf.errors import InputError
from agad_tf.pixels import image_header, read_image, set_channels, sixteen_bit_peak

_log = logging.getLogger(__name__)
_LOOKED_AT = 16  # files, evenly spread, that tell the depth of all
_FULL_RANGE = 1 << 14


class FileStore:
    """Decodes image files when they are read; holds their names.

    Args:
        listing: the files.
        image_size: (height, width) that each image is resized to, or None: all must be of one size.
        channels: 1 or 3, or None: 1 where every image is grey, else 3.
        crop: what `image_size` does to another aspect, "stretch" or "centre".
    """

    def __init__(
        self,
        listing: Listing,
        image_size: tuple[int, int] | None = None,
        channels: int | None = None,
        crop: str = "stretch",
    ):
        self.listing, self.image_size, self.channels, self.crop = listing, image_size, channels, crop

    def check_depth(self) -> None:
        """Warns of 16-bit files whose values leave their high byte all but empty: 12-bit cameras, CT."""
        files = self.listing.files
        some = np.unique(np.linspace(0, len(files) - 1, _LOOKED_AT).astype(int))
        peaks = []
        for row in some:
            with contextlib.suppress(InputError):  # told when it is its turn to be read
                peaks.append(sixteen_bit_peak(files[row]))
        peaks = [peak for peak in peaks if peak is not None]
        if peaks and max(peaks) < _FULL_RANGE:
            _log.warning(
                "%s: 16-bit files with values up to %d of 65535 (%d looked at): %d grey levels are left, as "
                "the high byte is read; write 8-bit files of the window you need, "
                "255 * (value - low) / (high - low)",
                self.listing.name, max(peaks), len(peaks), max(peaks) // 256 + 1,
            )  # fmt: skip

    @property
    def root(self) -> Path:
        return self.listing.root

    @cached_property
    def _headers(self) -> list[tuple[tuple[int, int], bool]]:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(image_header, self.listing.files))

    @cached_property
    def depth(self) -> int:
        """Channels of the images as they are read, 1 or 3."""
        return self.channels or (1 if all(grey for _, grey in self._headers) else 3)

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, height, width, channels), from the headers of the files.

        Raises:
            InputError: an unreadable file, or mixed sizes without an image size.
        """
        files = self.listing.files
        if self.image_size is not None:
            return (len(files), *self.image_size, self.depth)
        size = self._headers[0][0]
        for file, (other, _) in zip(files, self._headers, strict=True):
            if other != size:
                raise MixedSizesError(
                    f"{file}: expected {size_text(size)} (height x width) as in {files[0]}, received "
                    f"{size_text(other)}; pass an image size to resize all images"
                )
        return (len(files), *size, self.depth)

    @cached_property
    def digests(self) -> np.ndarray:
        """Content digest of each image as `read` gives it, uint8 (n, 16)."""
        found = decode_each(len(self.listing.files), lambda row: content_digest(self._one(row)))
        return np.frombuffer(b"".join(found), np.uint8).reshape(-1, 16)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images at these positions, uint8 (len(rows), height, width, channels).

        Raises:
            InputError: a file that cannot be read, or of another size than its header said.
        """
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for index, pixels in enumerate(decode_each(len(rows), lambda index: self._one(int(rows[index])))):
            out[index] = pixels
        return out

    def all(self) -> np.ndarray:
        """The images of all files, uint8 (n, height, width, channels); reads each file once.

        Raises:
            InputError: see `shape`.
        """
        files = self.listing.files
        form = (self.image_size, self.channels, self.crop)
        return decode_all(len(files), self.image, lambda row: str(files[row]), *form)

    def image(self, row: int) -> np.ndarray:
        """One image as its file holds it, uint8 (height, width, 1 or 3)."""
        return read_image(self.listing.files[row])

    def mark(self, row: int) -> bytes:
        """What tells whether a file has changed since: name, size and time."""
        file = self.listing.files[row]
        found = file.stat()
        return encoded(f"{self.relative(file)}:{found.st_size}:{found.st_mtime_ns}")

    def relative(self, path: Path | str | None) -> str:
        """A path relative to the folder of the source; "" for none."""
        return "" if path is None else os.path.relpath(path, self.root)

    def in_memory(self, size: tuple[int, int]) -> ArrayStore:
        """All images, each decoded once and kept at `size`; their digests are those of the pixels before."""
        out = np.empty((len(self.listing.files), *size, self.depth), np.uint8)

        def one(row: int) -> bytes:
            pixels = self._one(row)
            out[row] = resize_uint8(pixels, size, self.crop)
            return content_digest(pixels)

        digests = decode_each(len(out), one)
        return ArrayStore(out, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16))

    def _one(self, row: int) -> np.ndarray:
        pixels = set_channels(self.image(row), self.depth)
        return pixels if self.image_size is None else resize_uint8(pixels, self.image_size, self.crop)
