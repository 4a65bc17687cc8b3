"""The doors of `malformed_matrix` by which samples and answers come in; `malformed_saved` has the others."""

import csv
import io
import os
import shutil
from pathlib import Path

import numpy as np
from malformed_arrays import HANDED_OVER
from malformed_cases import BAD, DAMAGED, GOOD, encoded, picture
from malformed_matrix import NAMES, Case, artefact
from malformed_saved import SAVED
from serving_cases import FEATURES, detector, exports, squared_length, tflite

from agad_tf.data.sources.images import read_image
from agad_tf.data.sources.load import load_samples
from agad_tf.errors import InputError
from agad_tf.pixels import preprocess
from agad_tf.scoring.detectors import open_detector
from agad_tf.scoring.pipeline import score_samples
from agad_tf.scoring.samples import samples_of


def scored(opened, paths, batch_size=4) -> np.ndarray:
    """What `agad-tf score` writes for these paths: scores, NaN where there is an error in one line."""
    samples = samples_of(list(map(str, paths)), io.BytesIO(), opened.features, None, opened.identity)
    rows = [row for batch in score_samples(samples, opened.read, opened.score, batch_size) for row in batch]
    several = [row.error for row in rows if row.error and len(row.error.splitlines()) != 1]
    if several:
        raise AssertionError(f"an error of several lines: {several[0]!r}")
    return np.array([np.nan if row.error is not None else row.score for row in rows])


# -- images ------------------------------------------------------------------------------------------------


def image_files(rng, folder: Path) -> dict:
    """Folders of three files, of which the second is the odd one, to an edge export."""
    opened = open_detector(tflite(), threads=1)
    plain = encoded(picture(rng), "PNG")

    def folder_with(make, name="1.png"):
        place = folder / "images"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "0.png").write_bytes(plain)
        (place / "2.png").write_bytes(plain)
        content = make(place / name)
        if content is not None:
            (place / name).write_bytes(content)
        return place

    def wanted(place, damaged):
        """Each file read by itself; a PNG has checksums, so that damage to one must show or not matter."""
        answers = []
        for path in sorted(place.iterdir(), key=lambda path: path.name):
            try:
                pixels = read_image(path, 1) if path.is_file() else None
            except InputError:
                pixels = None
            if path.name in damaged and pixels is not None:
                np.testing.assert_array_equal(pixels, damaged[path.name])
            seen = None if pixels is None else preprocess(pixels[None], (8, 8))
            answers.append(np.nan if seen is None else detector()[0].predict(seen, verbose=0)[0])
        return np.array(answers)

    def case(what, make, name="1.png", bad=False, damaged=None):
        place = folder_with(make, name)

        def call():
            answers = scored(opened, [place])
            if bad and not np.isnan(answers[1]):
                raise AssertionError("was scored")
            np.testing.assert_allclose(answers, wanted(place, damaged or {}), rtol=1e-4, atol=1e-4)
            return answers

        answers = np.zeros(3)
        return Case(what, call, answers, free=True)

    def of(group, *kinds, bad):
        def make(rng):
            kind = kinds[rng.integers(len(kinds))]
            return case(kind, lambda path: group[kind](rng, path), bad=bad)

        return make

    def damaged_png(kind):
        def make(rng):
            image = picture(rng)
            data = bytearray(encoded(image, "PNG"))
            if kind == "flipped":
                data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
            else:
                del data[rng.integers(1, len(data) - 12) :]
            return case(kind, lambda path: bytes(data), damaged={"1.png": np.asarray(image)[..., None]})

        return make

    def either(*makers):
        return lambda rng: makers[rng.integers(len(makers))](rng)

    def special(rng):
        what = ("pipe", "/dev/zero", "/dev/null")[rng.integers(3)]

        def make(path):
            os.mkfifo(path) if what == "pipe" else path.symlink_to(what)

        return case(what, make, bad=True)

    def named(rng):
        name = "1" + NAMES[rng.integers(len(NAMES))].replace("/", "") + ".png"
        return case(name, lambda path: plain, name)

    return {
        "truncated": either(of(DAMAGED, "truncated", "cut out", bad=False), damaged_png("cut")),
        "bit-flipped": either(of(DAMAGED, "flipped", "inserted", bad=False), damaged_png("flipped")),
        "huge": of(BAD, "huge png", "huge jpeg", "huge bmp", bad=True),
        "empty": of(BAD, "empty", "no width", "nothing in it", bad=True),
        "hostile names": named,
        "links": of(BAD, "link to nothing", "link to itself", bad=True),
        "devices and pipes": special,
        "wrong type": of(BAD, "text", "zip", "gif", "tiff", "page", "noise", "png noise", bad=True),
        "wrong range": of(GOOD, "16 bits", "other colours", "cmyk", "rotated", "thin", bad=False),
    }


# -- tables ------------------------------------------------------------------------------------------------


def rows_detector():
    return open_detector(exports()["rows"])


def csv_tables(rng, folder: Path) -> dict:
    """CSV files to `score`."""
    opened = rows_detector()
    x = rng.normal(size=(7, FEATURES)).round(4)
    lines = [",".join(map(repr, row)) for row in x.tolist()]
    right = squared_length(x)

    def case(what, text, wanted=right, name="t.csv", free=False):
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Case(what, lambda: scored(opened, [path]), wanted, free)

    def oracle(text):
        """Row by row with the reader of the standard library, NaN where something is no plain number."""
        answers = []
        for cells in csv.reader(io.StringIO(text)):
            try:
                row = np.array([float(cell) for cell in cells], np.float32)
                answers.append(float(squared_length(row)) if len(row) == FEATURES else np.nan)
            except ValueError:
                answers.append(np.nan)
        answers = np.array(answers)
        return np.where(np.isfinite(answers), answers, np.nan)

    def cell(*values):
        def make(rng):
            value = values[rng.integers(len(values))]
            row, column = int(rng.integers(1, 7)), int(rng.integers(FEATURES))
            cells = [repr(v) for v in x[row].tolist()]
            cells[column] = value
            text = "\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]])
            wanted = right.copy()
            wanted[row] = np.nan
            return case(f"cell {value!r}", text, wanted)

        return make

    def cut(rng):
        text = "\n".join(lines)[: int(rng.integers(len(lines[0]) + 2, sum(map(len, lines))))]
        return case("cut", text, oracle(text))

    def spelled(rng):
        """The same rows as other programs write them."""
        quoted = [",".join(f'"{v!r}"' for v in row) for row in x.tolist()]
        comma = [";".join(repr(v).replace(".", ",") for v in row) for row in x.tolist()]
        index = [f"{i},{line}" for i, line in enumerate(lines)]
        ways = {
            "quoted": "\n".join(quoted),
            "decimal commas": "\n".join(["a;b;c;d", *comma]),
            "BOM": "\ufeff" + "\n".join(["a,b,c,d", *lines]),
            "index": "\n".join([",a,b,c,d", *index]),
            "label": "\n".join(["a,b,c,d,label", *(f"{line},0" for line in lines)]),
            "sep=": "sep=,\n" + "\n".join(["a,b,c,d", *lines]),
            "line ends": "\r\n".join(["a,b,c,d", *lines, ""]),
            "tabs": "\n".join(line.replace(",", "\t") for line in lines),
            "UTF-16": "\n".join(["a,b,c,d", *lines]).encode("utf-16"),
        }
        what = list(ways)[rng.integers(len(ways))]
        return case(what, ways[what])

    def flipped(rng):
        data = bytearray("\n".join(["a,b,c,d", *lines]).encode())
        data[rng.integers(8, len(data))] |= 128  # no digit turns into another by this
        wanted = np.full(7, np.nan)
        return case("a byte above 127", bytes(data), wanted, free=True)

    def special(rng):
        path = folder / "special.csv"
        path.unlink(missing_ok=True)
        what = ("pipe", "/dev/zero", "/dev/null")[rng.integers(3)]
        os.mkfifo(path) if what == "pipe" else path.symlink_to(what)
        return Case(what, lambda: scored(opened, [path]), None)

    def link(rng):
        path = folder / "link.csv"
        path.unlink(missing_ok=True)
        path.symlink_to(("nothing", "link.csv")[rng.integers(2)])
        return Case("link", lambda: scored(opened, [path]), None)

    wide = ",".join(["1"] * 200_000)
    long = '"' + "x" * 300_000
    empty = (b"", b"\n", b"\n\n \n", b"\xef\xbb\xbf")

    def huge(rng):
        return case("huge", ("\n".join([lines[0], wide]), long)[rng.integers(2)], np.zeros(2), free=True)

    def named(rng):
        return case("name", "\n".join(lines), name=NAMES[rng.integers(len(NAMES))] + ".csv")

    def other(rng):
        return case("no table", BAD[("zip", "gif", "noise", "page")[rng.integers(4)]](rng, None), None)

    return {
        "truncated": cut,
        "bit-flipped": flipped,
        "huge": huge,
        "empty": lambda rng: case("empty", empty[rng.integers(len(empty))], None),
        "hostile names": named,
        "links": link,
        "devices and pipes": special,
        "wrong type": lambda rng: spelled(rng) if rng.integers(3) else other(rng),
        "wrong range": cell("1e39", "1e999", "0x10", "1_000", "1.2.3", "", "TRUE", "1 2", "٣"),
        "NaN and infinity": cell("nan", "inf", "-Infinity", "NA", "#N/A", "null", "None"),
    }  # fmt: skip


def archives(rng, folder: Path) -> dict:
    """npz and mat files to `score` and to `load_samples`."""
    from scipy.io import savemat

    opened = rows_detector()
    x = rng.normal(size=(9, FEATURES)).astype(np.float32)
    y = np.arange(9) % 2
    np.savez_compressed(folder / "good.npz", X=x, y=y)
    savemat(folder / "good.mat", {"X": x, "y": y[:, None]}, do_compression=True)

    def used(path):
        loaded = load_samples(path)
        return np.concatenate([scored(opened, [path]), squared_length(loaded.x), loaded.classes])

    doors = [artefact(folder / f"good.{end}", used, lambda path: [""], folder / end) for end in ("npz", "mat")
             if (folder / end).mkdir() is None]  # fmt: skip

    def valued(values):
        def make(rng):
            other = np.array(x, np.float64)
            row, column = int(rng.integers(9)), int(rng.integers(FEATURES))
            other[row, column] = values[rng.integers(len(values))]
            path = folder / "valued.npz"
            np.savez(path, X=other)
            wanted = squared_length(x)
            wanted[row] = np.nan
            return Case(f"value {other[row, column]}", lambda: scored(opened, [path]), wanted)

        return make

    def either(kind):
        return lambda rng: doors[rng.integers(2)][kind](rng)

    numbers = {"wrong range": valued((1e300, 1e39)), "NaN and infinity": valued((np.nan, np.inf, -np.inf))}
    return {kind: either(kind) for kind in doors[0]} | numbers


DOORS = {
    "image files": image_files,
    "CSV tables": csv_tables,
    "npz and mat files": archives,
    **HANDED_OVER,
    **SAVED,
}
"""Name to the function that gives its kinds."""
