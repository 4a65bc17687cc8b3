"""NumPy archives (.npz): images and tables in the layouts that are around."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from agad_tf.data.samples import Samples, encode_labels, label_vector
from agad_tf.data.sources.images import decode_all, decode_image, image_array
from agad_tf.data.sources.memory import check_memory
from agad_tf.data.sources.tables import table_array
from agad_tf.errors import InputError

# part -> (data, labels) for the layouts of keras.datasets and of MedMNIST
_LAYOUTS = (
    {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val"), "test": ("x_test", "y_test")},
    {
        "train": ("train_images", "train_labels"),
        "validation": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
)
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, MemoryError, RuntimeError,
)  # fmt: skip
"""What damaged, encrypted or oversized .npz archives raise, beside ValueError."""
_PACKED = ("train_bytes", "train_offsets", "y_train", "test_bytes", "test_offsets", "y_test")
_Form = tuple[tuple[int, int] | None, int | None, str]  # image size, channels, crop
_TAKEN = (
    "x_train, y_train, x_test, y_test; train_images, train_labels, test_images, test_labels; train_bytes, "
    "train_offsets, y_train, test_bytes, test_offsets, y_test; X, y; x, y"
)


def archive_is_table(path: Path) -> bool:
    """Whether the data of an .npz archive have two dimensions, by the header; False if it is damaged."""
    names = {*(layout["train"][0] for layout in _LAYOUTS), "X", "x"}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names & {entry.removesuffix(".npy") for entry in archive.namelist()}:
                with archive.open(f"{name}.npy") as file:
                    version = np.lib.format.read_magic(file)
                    read = np.lib.format.read_array_header_1_0
                    read = read if version == (1, 0) else np.lib.format.read_array_header_2_0
                    return len(read(file)[0]) == 2
    except (*_ARCHIVE_ERRORS, ValueError):
        return False
    return False


def load_npz(
    path: Path,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    crop: str = "stretch",
    gaps: bool = False,
) -> Samples:
    """Reads an .npz archive in one of these layouts, told apart by its keys.

    - keras.datasets: `x_train`, `y_train`, `x_test`, `y_test`, and optionally `x_val`, `y_val`;
    - MedMNIST: `train_images`, `train_labels`, `test_images`, `test_labels`, optionally `val_*`;
    - packed JPEG: `train_bytes` (all files, one after the other), `train_offsets` (n + 1,), `y_train`, the
      same for test; `y_coarse_train` and `y_coarse_test` with `coarse_names` are preferred where present
      (CIFAR-100);
    - `X` and `y`, or `x` and `y`, without a split.

    `group` beside `X` and `y`, and `group_train`, `group_test` (and `group_val`) beside the others, say which
    rows belong together: one string or number a row.

    Two-dimensional data are a table, others are images: integers 0..255 or floats in [0, 1], which become
    uint8. `gaps` says whether values of a table may be missing (NaN). `class_names` and `feature_names` are
    used where present. Nothing is unpickled.

    Raises:
        InputError: not such an archive, keys of no known layout, object arrays, labels that do not fit, NaN
            or infinity, mixed kinds.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(
                f"{path}: expected an .npz archive, received a single array; save with numpy.savez"
            )
        with archive:
            return _from_archive(_Archive(path, archive), (image_size, channels, crop), gaps)
    except _ARCHIVE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: expected an .npz archive that fits into memory, received: {reason}"
        ) from error
    except InputError:
        raise
    except ValueError as error:
        # What NumPy says of a file that is neither a zip nor an .npy file: it takes it for a pickle.
        raise InputError(f"{path}: expected an .npz archive, received another kind of file") from error


class _Archive:
    """An open archive whose missing or object arrays are told in one line."""

    def __init__(self, path: Path, archive: np.lib.npyio.NpzFile):
        self.path, self.keys, self._archive = path, tuple(archive.files), archive

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def __getitem__(self, key: str) -> np.ndarray:
        self._check_size(key)
        try:
            return self._archive[key]
        except ValueError as error:
            raise InputError(
                f"{self.path}: expected numbers or text in array '{key}', received one that cannot be read "
                "without pickle (Python objects) or is damaged; save it with a plain dtype"
            ) from error

    def _check_size(self, key: str) -> None:
        """Refuses an array that says it is larger than its bytes, or than this machine's memory."""
        member = self._archive.zip.getinfo(
            f"{key}.npy" if f"{key}.npy" in self._archive.zip.namelist() else key
        )
        with self._archive.zip.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read:
                return
            shape, _, dtype = read[version](file)
            stored = member.file_size - file.tell()
        needed = math.prod(shape) * dtype.itemsize
        if needed > stored and not dtype.hasobject:
            raise InputError(
                f"{self.what(key)}: expected {needed} bytes for shape {shape}, received {stored}; copy "
                "the file again"
            )
        check_memory(needed, self.what(key))

    def what(self, key: str) -> str:
        return f"{self.path} array '{key}'"

    def names(self, key: str) -> tuple[str, ...] | None:
        if key not in self:
            return None
        if self[key].ndim != 1:
            raise InputError(
                f"{self.what(key)}: expected a list of names, received shape {self[key].shape}; store a name "
                "for each"
            )
        return tuple(str(name) for name in self[key])

    def group(self, keys: Mapping[str, int]) -> np.ndarray | None:
        """The groups of the parts after each other: array to its number of rows; None where there is none."""
        found = [key for key in keys if key in self]
        if not found:
            return None
        pieces = []
        for key, rows in keys.items():
            received = self[key].shape if key in self else "no such array"
            if received != (rows,):
                raise InputError(
                    f"{self.what(key)}: expected one group for each of {rows} rows, as in '{found[0]}', "
                    f"received {received}"
                )
            pieces.append(self[key].astype(str))
        return np.concatenate(pieces)


def _from_archive(archive: _Archive, form: _Form, gaps: bool) -> Samples:
    if all(key in archive for key in _PACKED):
        return _packed(archive, form)
    for layout in _LAYOUTS:
        pairs = {part: keys for part, keys in layout.items() if all(key in archive for key in keys)}
        if "train" in pairs and "test" in pairs:
            return _plain(archive, pairs, form, gaps)
    for keys in (("X", "y"), ("x", "y")):
        if all(key in archive for key in keys):
            return _plain(archive, {None: keys}, form, gaps)
    raise InputError(
        f"{archive.path}: expected the arrays of one of these layouts ({_TAKEN}), received "
        f"{', '.join(sorted(archive.keys)) or 'none'}; rename the arrays"
    )


def _plain(
    archive: _Archive,
    pairs: dict[str | None, tuple[str, str]],
    form: _Form,
    gaps: bool,
) -> Samples:
    feature_names = archive.names("feature_names")
    arrays, labels, parts = [], [], []
    for part, (data_key, label_key) in pairs.items():
        x = archive[data_key]
        if x.ndim == 2:
            if feature_names is not None and len(feature_names) != x.shape[1]:
                raise InputError(
                    f"{archive.what('feature_names')}: expected {x.shape[1]} names for {x.shape[1]} columns, "
                    f"received {len(feature_names)}"
                )
            x = table_array(x, archive.what(data_key), feature_names, gaps=gaps)
        else:
            x = image_array(x, archive.what(data_key), *form)
        if arrays and x.shape[1:] != arrays[0].shape[1:]:
            raise InputError(
                f"{archive.what(data_key)}: expected rows of shape {arrays[0].shape[1:]} as in the training "
                f"part, received {x.shape[1:]}; pass an image size or mend the file"
            )
        arrays.append(x)
        labels.append(label_vector(archive[label_key], len(x), archive.what(label_key)))
        parts.append(np.full(len(x), part or ""))
    x = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    if not len(x):
        raise InputError(f"{archive.path}: expected at least one row, received none")
    table = x.ndim == 2
    classes, class_names, normal = encode_labels(
        _join_labels(archive, labels),
        str(archive.path),
        table=table,
        class_names=archive.names("class_names"),
    )
    return Samples(
        archive.path.stem,
        x,
        classes,
        class_names,
        part=None if None in pairs else np.concatenate(parts),
        normal_classes=normal,
        feature_names=feature_names if table else None,
        group=archive.group({_group_key(part): len(x) for part, x in zip(pairs, arrays, strict=True)}),
    )


def _group_key(part: str | None) -> str:
    return "group" if part is None else f"group_{part.replace('validation', 'val')}"


def _join_labels(archive: _Archive, labels: list[np.ndarray]) -> np.ndarray:
    if len({label.dtype.kind for label in labels}) > 1:
        raise InputError(
            f"{archive.path}: expected labels of one kind in all parts, received numbers and text"
        )
    return np.concatenate(labels)


def _packed(archive: _Archive, form: _Form) -> Samples:
    coarse = "y_coarse_train" in archive and "y_coarse_test" in archive
    files: list[tuple[bytes, str]] = []
    labels, parts = [], []
    for part in ("train", "test"):
        offsets, packed = archive[f"{part}_offsets"], archive[f"{part}_bytes"].tobytes()
        valid = offsets.ndim == 1 and len(offsets) > 1 and offsets.dtype.kind in "iu"
        if not (
            valid
            and offsets[0] == 0
            and offsets[-1] == len(packed)
            and (np.diff(offsets.astype(np.int64)) > 0).all()
        ):
            raise InputError(
                f"{archive.what(f'{part}_offsets')}: expected increasing offsets from 0 to {len(packed)}, "
                f"the length of {part}_bytes, received others; pack the files again"
            )
        bounds = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        files += [
            (packed[start:stop], f"{archive.path} {part} image {i}") for i, (start, stop) in enumerate(bounds)
        ]
        key = f"y_coarse_{part}" if coarse else f"y_{part}"
        count = len(offsets) - 1
        labels.append(label_vector(archive[key], count, archive.what(key)))
        parts.append(np.full(count, part))
    x = decode_all(len(files), lambda i: decode_image(*files[i]), lambda i: files[i][1], *form)
    names = archive.names("coarse_names" if coarse else "class_names")
    classes, class_names, normal = encode_labels(
        _join_labels(archive, labels), str(archive.path), table=False, class_names=names
    )
    return Samples(
        archive.path.stem,
        x,
        classes,
        class_names,
        part=np.concatenate(parts),
        normal_classes=normal,
        group=archive.group({f"group_{part}": len(labels[i]) for i, part in enumerate(("train", "test"))}),
    )
