"""Files, arrays and tables as bad as they come, from a seed: what no scorer may stumble over.

A case knows whether it must be scored. Where damage is random nobody knows beforehand: then `read_image`
decides whether the file is an image, and its pixels which score it must have.
"""

import io
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from agad_tf.data.sources.images import read_image
from agad_tf.errors import InputError

SUFFIXES = (".png", ".jpg", ".JPEG", ".bmp")
NAMES = ("{0}", "größe {0}", "日本 {0}", "a,b;{0}", 'quo"ted {0}', "it's {0}", "-{0}", "%s{0}%d", "😀{0}",
         "tab\t{0}", "x" * 200 + "{0}")  # fmt: skip
ODD_NAMES = ("line\nbreak {0}", "return\r{0}", os.fsdecode(b"no utf-8 \xff\xfe {0}"))
"""Names that cannot stand in a list of one path a line, or are no Unicode; for folders alone."""


@dataclass
class Case:
    """A file to score.

    Attributes:
        kind: what is the matter with it.
        path: where it is.
        good: True: must be scored, False: must be told, None: as `read_image` decides.
    """

    kind: str
    path: Path
    good: bool | None


def write_files(folder, count, seed, odd_names=False):
    """Writes `count` files into `folder`, about a third of them good; returns their cases."""
    rng = np.random.default_rng(seed)
    cases = []
    for index in range(count):
        kinds, good = ((GOOD, True), (BAD, False), (DAMAGED, None))[index % 3]
        kind = list(kinds)[rng.integers(len(kinds))]
        names = NAMES + ODD_NAMES if odd_names and index % 5 == 0 else NAMES
        name = names[rng.integers(len(names))].format(f"{index:06d}") + SUFFIXES[rng.integers(len(SUFFIXES))]
        path = Path(folder, name)
        content = kinds[kind](rng, path)
        if content is not None:
            path.write_bytes(content)
        cases.append(Case(kind, path, good))
    return cases


def expected(case, channels=1):
    """The pixels that must be scored, or None where there must be an error."""
    if case.good is False:
        return None
    try:
        return read_image(case.path, channels)
    except InputError:
        assert case.good is None, f"{case.kind}: a good file cannot be read"
        return None


# -- images ----------------------------------------------------------------------------------------------


def picture(rng, mode="L"):
    """A random image of a random size: smooth, so that JPEG keeps most of it."""
    height, width = (int(side) for side in rng.integers(4, 40, 2))
    rough = rng.integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BILINEAR).convert(mode)


def encoded(image, form, **settings):
    stream = io.BytesIO()
    image.save(stream, form, **settings)
    return stream.getvalue()


def _modes(*modes):
    return lambda rng, path: encoded(picture(rng, modes[rng.integers(len(modes))]), "PNG")


def _sixteen_bits(rng, path):
    grey = np.asarray(picture(rng)).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


def _transparent(rng, path):
    image = picture(rng, "RGBA")
    image.putalpha(picture(rng).resize(image.size))
    return encoded(image, "PNG")


def _rotated(rng, path):
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    return encoded(picture(rng, "RGB"), ("JPEG", "PNG")[rng.integers(2)], exif=exif)


def _with_text(rng, path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    return encoded(picture(rng, "RGB"), "PNG", pnginfo=text)


def _thin(rng, path):
    sides = (1, int(rng.integers(1, 2000)))
    grey = rng.integers(0, 256, sides if rng.integers(2) else sides[::-1], np.uint8)
    return encoded(Image.fromarray(grey), "PNG")


GOOD = {
    "png": _modes("L", "RGB"),
    "other colours": _modes("1", "P", "LA", "RGBA"),
    "16 bits": _sixteen_bits,
    "transparent": _transparent,
    "jpeg": lambda rng, path: encoded(picture(rng, "RGB"), "JPEG", quality=int(rng.integers(20, 96))),
    "grey jpeg": lambda rng, path: encoded(picture(rng), "JPEG", progressive=True),
    "cmyk": lambda rng, path: encoded(picture(rng, "CMYK"), "JPEG"),
    "bmp": lambda rng, path: encoded(picture(rng, ("L", "RGB")[rng.integers(2)]), "BMP"),
    "rotated": _rotated,
    "rotated by text": _with_text,
    "thin": _thin,
    "more behind it": lambda rng, path: encoded(picture(rng, "RGB"), "PNG") + rng.bytes(100),
}


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, depth=8, colour=0, data=b"\0" * 100):
    """A PNG that says that it is of some size, whatever it holds."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _huge_png(rng, path):
    return png_of(int(rng.integers(20_000, 2**31 - 1)), int(rng.integers(20_000, 2**31 - 1)))


def _huge_jpeg(rng, path):
    data = bytearray(encoded(picture(rng), "JPEG"))
    size = data.index(b"\xff\xc0") + 5
    data[size : size + 4] = b"\xff\xdc\xff\xdc"  # 65,500 x 65,500
    return bytes(data)


def _huge_bmp(rng, path):
    data = bytearray(encoded(picture(rng), "BMP"))
    data[18:26] = struct.pack("<ii", 2_000_000, 2_000_000)
    return bytes(data)


def _zip(rng, path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("image.png", encoded(picture(rng), "PNG"))
    return stream.getvalue()


def _link(target):
    def make(rng, path):
        path.symlink_to(path if target is None else target)

    return make


BAD = {
    "empty": lambda rng, path: b"",
    "text": lambda rng, path: "no image, größe\n".encode() * int(rng.integers(1, 50)),
    "zip": _zip,
    "gif": lambda rng, path: encoded(picture(rng), "GIF"),
    "tiff": lambda rng, path: encoded(picture(rng), "TIFF"),
    "page": lambda rng, path: b"<!DOCTYPE html><html><body>404</body></html>",
    "noise": lambda rng, path: rng.bytes(int(rng.integers(1, 500))),
    "png noise": lambda rng, path: b"\x89PNG\r\n\x1a\n" + rng.bytes(int(rng.integers(0, 500))),
    "jpeg noise": lambda rng, path: b"\xff\xd8\xff\xe0" + rng.bytes(int(rng.integers(0, 500))),
    "huge png": _huge_png,
    "huge jpeg": _huge_jpeg,
    "huge bmp": _huge_bmp,
    "no width": lambda rng, path: png_of(0, 8),
    "nothing in it": lambda rng, path: png_of(9, 9, data=b""),
    "link to nothing": _link("nothing"),
    "link to itself": _link(None),
}


def _source(rng):
    form = ("PNG", "JPEG", "BMP")[rng.integers(3)]
    return encoded(picture(rng, ("L", "RGB")[rng.integers(2)]), form)


def _truncated(rng, path):
    data = _source(rng)
    return data[: rng.integers(1, len(data))]


def _flipped(rng, path):
    data = bytearray(_source(rng))
    for _ in range(int(rng.integers(1, 6))):
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _cut_out(rng, path):
    data = _source(rng)
    start, stop = sorted(rng.integers(1, len(data), 2).tolist())
    return data[:start] + data[stop:]


def _inserted(rng, path):
    data = _source(rng)
    where = int(rng.integers(2, len(data)))
    return data[:where] + rng.bytes(int(rng.integers(1, 40))) + data[where:]


DAMAGED = {"truncated": _truncated, "flipped": _flipped, "cut out": _cut_out, "inserted": _inserted}


# -- arrays ----------------------------------------------------------------------------------------------


def bad_images(rng, channels=1):
    """(kind, array) that no detector of uint8 images with so many channels takes."""
    other = 3 if channels == 1 else 1
    n, side = int(rng.integers(1, 4)), int(rng.integers(1, 20))
    made = {
        "wrong channels": np.zeros((n, side, side, other), np.uint8),
        "two channels": np.zeros((n, side, side, 2), np.uint8),
        "flat": np.zeros((n, side * side), np.uint8),
        "a number": np.zeros((), np.uint8),
        "five axes": np.zeros((n, 1, side, side, channels), np.uint8),
        "none": np.zeros((0, side, side, channels), np.uint8),
        "no height": np.zeros((n, 0, side, channels), np.uint8),
        "no width": np.zeros((n, side, 0, channels), np.uint8),
        "floats": rng.normal(size=(n, side, side, channels)),
        "NaN": np.full((n, side, side, channels), np.nan, np.float32),
        "infinity": np.full((n, side, side, channels), np.inf, np.float32),
        "whole numbers": np.full((n, side, side, channels), 300),
        "negative": np.full((n, side, side, channels), -1, np.int16),
        "truths": np.ones((n, side, side, channels), bool),
        "complex": np.ones((n, side, side, channels), complex),
        "text": np.full((n, side, side, channels), "a"),
        "objects": np.full((n, side, side, channels), None),
        "dates": np.zeros((n, side, side, channels), "M8[s]"),
        "huge": np.broadcast_to(np.uint8(0), (1, 50_000, 50_000, channels)),
    }
    kind = list(made)[rng.integers(len(made))]
    return kind, made[kind]


def bad_rows(rng, features):
    """(kind, array) that no detector of tables with so many columns takes."""
    n = int(rng.integers(1, 4))
    made = {
        "a column more": np.zeros((n, features + 1)),
        "a column less": np.zeros((n, features - 1)),
        "one row": np.zeros(features),
        "images": np.zeros((n, 8, 8, 1), np.uint8),
        "none": np.zeros((0, features)),
        "no columns": np.zeros((n, 0)),
        "NaN": np.full((n, features), np.nan),
        "infinity": np.full((n, features), -np.inf),
        "beyond float32": np.full((n, features), 1e300),
        "complex": np.ones((n, features), complex),
        "text": np.full((n, features), "1"),
        "objects": np.full((n, features), None),
    }
    kind = list(made)[rng.integers(len(made))]
    return kind, made[kind]


# -- tables ----------------------------------------------------------------------------------------------


def csv_lines(rng, count, features):
    """`count` lines of a CSV file without header, and for each its numbers, None where it is broken."""
    lines, rows = [], []
    for index in range(count):
        row = rng.normal(size=features).astype(np.float32)
        cells = [repr(value) for value in row.tolist()]
        if index % 3 and index:  # the first line says how many cells there are
            cells = _broken_cells(rng, cells)
            row = None
        lines.append(",".join(cells))
        rows.append(row)
    return lines, rows


def _broken_cells(rng, cells):
    cells = list(cells)
    where = int(rng.integers(len(cells)))
    damage = int(rng.integers(10))
    if damage == 0:
        del cells[where]
    elif damage == 1:
        cells.insert(where, "1")
    else:
        cells[where] = (
            "", "nan", "inf", "1e999", "eins", '"unclosed', "1.2.3", "0x10",
        )[damage - 2]  # fmt: skip
    return cells


def damaged_table(rng, features):
    """(suffix, bytes) of an .npz or .mat file that was cut or flipped, and the rows it was made of."""
    from scipy.io import savemat

    rows = rng.normal(size=(int(rng.integers(2, 60)), features)).astype(np.float32)
    stream = io.BytesIO()
    suffix = (".npz", ".mat")[rng.integers(2)]
    if suffix == ".npz":
        (np.savez, np.savez_compressed)[rng.integers(2)](stream, X=rows)
    else:
        savemat(stream, {"X": rows}, do_compression=True)  # with a checksum: a flipped bit is noticed
    data = bytearray(stream.getvalue())
    if rng.integers(2):
        del data[rng.integers(1, len(data)) :]
    else:
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return suffix, bytes(data), rows
