"""Limits of decoding: bombs, memory, 16-bit files that hold 12 bits, photographs at the working size."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from agad_tf import pixels
from agad_tf.data.rows import LazyRows
from agad_tf.data.sources.file_store import FileStore
from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.errors import InputError
from agad_tf.pixels import image_header, read_image, resize_antialiased
from agad_tf.training import loading

RNG = np.random.default_rng(0)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_one_colour(path, side, colour_type=0):
    """A PNG of `side` x `side` black pixels, some kilobytes whatever the side; 0 is grey, 6 RGBA."""
    row = 1 + side * {0: 1, 6: 4}[colour_type]
    squeeze = zlib.compressobj(9)
    content = b"".join([squeeze.compress(bytes(row)) for _ in range(side)] + [squeeze.flush()])
    header = struct.pack(">IIBBBBB", side, side, 8, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    )
    return path


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    bomb = png_of_one_colour(tmp_path / "bomb.png", 11_000)
    assert bomb.stat().st_size < 2e5
    tracemalloc.start()
    for read in (read_image, image_header, pixels.read_mask):
        with pytest.raises(InputError, match=r"at most 89478485 pixels, received 11000 x 11000; cut it"):
            read(bomb)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    with pytest.raises(InputError, match=r"at most \d+ pixels"):
        pixels.decode_image(bomb.read_bytes(), "request")


def test_the_limit_can_be_changed(tmp_path, monkeypatch):
    small = png_of_one_colour(tmp_path / "a.png", 64)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(InputError, match="at most 4095 pixels, received 64 x 64"):
        read_image(small)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 64 * 64)
    assert read_image(small).shape == (64, 64, 1)


def test_deep_and_transparent_images_are_not_held_several_times(tmp_path):
    side = 2000
    deep = RNG.integers(0, 65536, (side, side), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png", compress_level=1)
    tracemalloc.start()
    read = read_image(tmp_path / "deep.png")
    deep_peak = tracemalloc.get_traced_memory()[1]
    np.testing.assert_array_equal(read[..., 0], deep >> 8)
    png_of_one_colour(tmp_path / "clear.png", side, colour_type=6)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    assert not read_image(tmp_path / "clear.png").any()
    clear_peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    # 16 bits as stored, twice where Pillow hands them over, and 8 as read; three bytes and stripes.
    assert deep_peak < 8 * side**2
    assert clear_peak < 8 * side**2


def test_headers_tell_what_decoding_gives(tmp_path):
    shape = (8, 14, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for index, (image, more) in enumerate(
        [
            (Image.fromarray(RNG.integers(0, 256, shape, np.uint8)), {}),
            (Image.fromarray(RNG.integers(0, 256, shape, np.uint8)), {"exif": exif}),
            (Image.fromarray(RNG.integers(0, 256, shape[:2], np.uint8)), {}),
            (Image.fromarray(RNG.integers(0, 65536, shape[:2], dtype=np.uint16)), {}),
            (Image.fromarray(RNG.integers(0, 256, shape, np.uint8)).convert("P"), {}),
            (Image.fromarray(RNG.integers(0, 256, shape[:2], np.uint8)).convert("LA"), {}),
        ]
    ):
        for suffix in ("png", "jpg"):
            if suffix == "jpg" and image.mode not in ("L", "RGB"):
                continue
            path = tmp_path / f"{index}.{suffix}"
            image.save(path, **more)
            read = read_image(path)
            assert image_header(path) == (read.shape[:2], read.shape[2] == 1)


@pytest.mark.parametrize(("largest", "told"), [(4095, 16), (1250, 5), (65535, None), (20000, None)])
def test_sixteen_bit_files_that_hold_fewer_bits_are_told(tmp_path, caplog, largest, told):
    (tmp_path / "set" / "normal").mkdir(parents=True)
    for index in range(20):
        image = RNG.integers(0, largest + 1, (6, 6)).astype(np.uint16)
        image[0, 0] = largest
        Image.fromarray(image).save(tmp_path / "set" / "normal" / f"{index:02d}.png")
    for read in (
        load_samples,
        loading.load,
        lambda source: prepare(source, tmp_path / "out", progress=False),
    ):
        caplog.clear()
        read(tmp_path / "set")
        words = f"values up to {largest} of 65535 (16 looked at): {told} grey levels are left"
        assert (words in caplog.text) == (told is not None)
        assert ("255 * (value - low) / (high - low)" in caplog.text) == (told is not None)


# --- photographs -----------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    for name, count in (("normal", 6), ("anomaly", 3)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(count):
            image = RNG.integers(0, 256, (48, 64, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / "set" / name / f"{index}.png")
    return tmp_path / "set"


def test_lazy_files_are_what_the_array_is(photos):
    whole, lazy = load_samples(photos), load_samples(photos, lazy=True)
    assert isinstance(lazy.x, LazyRows)
    assert lazy.x.shape == whole.x.shape
    np.testing.assert_array_equal(np.asarray(lazy.x), whole.x)
    np.testing.assert_array_equal(np.asarray(lazy.x[[7, 2]]), whole.x[[7, 2]])
    np.testing.assert_array_equal(lazy.digests, whole.digests)
    small = load_samples(photos, lazy=True, image_size=(8, 10), channels=1)
    np.testing.assert_array_equal(np.asarray(small.x), load_samples(photos, image_size=(8, 10), channels=1).x)


def test_many_bytes_of_photographs_are_held_at_the_working_size(photos, monkeypatch):
    whole = load_samples(photos)
    few = loading.load(photos, image_size=[24, 32])
    np.testing.assert_array_equal(np.asarray(few.x), whole.x)
    monkeypatch.setattr(loading, "KEPT_AS_STORED", whole.x.nbytes - 1)
    many = loading.load(photos, image_size=[24, 32])
    assert many.x.shape == (9, 24, 32, 3)
    expected = [np.rint(resize_antialiased(image, (24, 32))) for image in whole.x]
    np.testing.assert_array_equal(np.asarray(many.x), expected)
    # Content is that of the files, so that rows are found again whatever size a detector works at.
    np.testing.assert_array_equal(many.digests, whole.digests)
    assert loading.load(photos, image_size=[96, 96]).x.shape == whole.x.shape  # nothing is enlarged
    assert loading.load(photos).x.shape == whole.x.shape  # the detector's size is not known
    assert loading.load(photos, backbone="unet").x.shape == whole.x.shape  # 48 x 64 is what it takes
    assert loading.load(photos, image_size=[24, 32], crop="centre").x.shape == (9, 24, 32, 3)


def test_files_are_decoded_once(photos, monkeypatch):
    monkeypatch.setattr(loading, "KEPT_AS_STORED", 0)
    read = []
    image = FileStore.image
    monkeypatch.setattr(FileStore, "image", lambda self, row: read.append(row) or image(self, row))
    samples = loading.load(photos, image_size=16)
    assert samples.digests.shape == (9, 16)
    np.asarray(samples.x)
    assert sorted(read) == list(range(9))
