"""Image files decoded in the graph: pixels as outside, and a limit that the header is held to."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from agad_tf.export.encoded_images import decode_in_graph
from agad_tf.pixels import MAX_PIXELS, decode_image


@pytest.fixture(scope="module")
def decode():
    """channels to the graph that decodes."""
    spec = [tf.TensorSpec((), tf.string)]
    return {c: tf.function(lambda e, c=c: decode_in_graph(e, c), input_signature=spec) for c in (1, 3)}


def encoded(pixels, form="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def png_bomb(width, height):
    """A PNG of a few kilobytes, one colour, that says it has so many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg_bomb(width, height):
    """A small JPEG whose header was changed."""
    content = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("height", [1, 255, 256, 257, 700])
def test_pixels_are_those_outside_of_the_graph(decode, channels, height):
    rng = np.random.default_rng(0)
    for shape in ((height, 5), (height, 5, 3), (height, 5, 4)):
        content = encoded(rng.integers(0, 256, shape, np.uint8))
        np.testing.assert_array_equal(decode[channels](content), decode_image(content, "", channels))


@pytest.mark.parametrize("bomb", [png_bomb, jpeg_bomb])
@pytest.mark.parametrize("size", [(11000, 11000), (65000, 65000)])
def test_a_bomb_is_refused_by_its_header(decode, bomb, size):
    for channels in (1, 3):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {MAX_PIXELS} pixels"):
            decode[channels](bomb(*size))


def test_sizes_that_overflow_are_refused(decode):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode[3](png_bomb(2**31 - 1, 2**31 - 1))
    for content in (b"", b"\x89PNG", b"\xff\xd8\xff", png_bomb(0, 0)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode[3](content)


PEAK = """
import resource, sys
import tensorflow as tf
from agad_tf.export.encoded_images import decode_in_graph
spec = tf.TensorSpec((), tf.string)
decode = tf.function(lambda e: tf.shape(decode_in_graph(e, 1)), input_signature=[spec])
decode(open(sys.argv[1], "rb").read())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(decode(open(sys.argv[2], "rb").read()).numpy())
except tf.errors.InvalidArgumentError:
    print("refused")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_is_bounded_by_the_pixels(tmp_path):
    """Of a transparent image, the worst kind: four bytes a pixel decoded, one grey, its stripes joined."""
    small, large, bomb = (tmp_path / f"{name}.png" for name in ("small", "large", "bomb"))
    small.write_bytes(encoded(np.zeros((9, 9, 4), np.uint8)))
    large.write_bytes(encoded(np.zeros((4000, 4000, 4), np.uint8)))
    bomb.write_bytes(png_bomb(13000, 13000))
    for path, largest in ((large, 9 * 16e6), (bomb, 30e6)):
        command = [sys.executable, "-c", PEAK, small, path]
        said = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
        answer, kilobytes = said.strip().splitlines()
        assert answer == ("refused" if path == bomb else "[4000 4000    1]")
        assert int(kilobytes) * 1024 < largest
