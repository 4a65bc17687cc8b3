"""Where samples come from: one function, whatever the layout of the user's data."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from agad_tf.data.arrays import load_npz
from agad_tf.data.images import IMAGE_SUFFIXES, decode_all, image_array, read_image
from agad_tf.data.samples import Samples, normal_by_name
from agad_tf.data.tables import load_csv, load_mat
from agad_tf.errors import InputError

__all__ = ["Samples", "list_images", "load_samples", "read_image"]

_log = logging.getLogger(__name__)
_PARTS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_SUFFIXES = (".npz", ".csv", ".mat")


def load_samples(
    spec: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    label_column: str | int | None = None,
) -> Samples:
    """Reads images or a table into memory.

    Args:
        spec: one of
            - "digits": the 1797 handwritten digits of scikit-learn, 8 x 8 x 1, no split of their own;
            - an `.npz` archive (see `agad_tf.data.arrays.load_npz` for the layouts);
            - a `.csv` table or an ODDS `.mat` file;
            - a folder with `normal/` (or `good/`) and `anomaly/`, or one folder a class, or `train/` and
              `test/` (and `val/`) that each hold such folders. JPEG, PNG and BMP files, read as `read_image`
              says.
            A relative path that does not exist is also looked for under the folder in $AGAD_TF_DATA and in
            its direct subfolders, with and without the suffixes above.
        image_size: (height, width), or one number for both; images are resized bilinearly and rounded. None
            keeps the size, which must then be the same for all.
        channels: 1 or 3; None keeps 1 where every image is grey, else 3.
        label_column: name or position of the label in a CSV file; None: see `agad_tf.data.tables.load_csv`.

    Returns:
        The samples. Images are uint8 (n, height, width, channels): integer arrays are taken as 0..255, floats
        as [0, 1], times 255 and rounded. Tables are float32 (n, features) with raw values.

    Raises:
        InputError: nothing found (says where it looked), unknown layout, no or unreadable images, mixed
            sizes, values or labels that are missing, infinite, of another type or of another length.
    """
    size = _check_size(image_size)
    if channels not in (None, 1, 3):
        raise InputError(
            f"expected channels 1 or 3, received {channels}; leave it out to keep what the images have"
        )
    if spec == "digits":
        return _digits(size, channels)
    path = _find(spec)
    if path.is_dir():
        return _load_folder(path, size, channels)
    suffix = path.suffix.casefold()
    if suffix == ".npz":
        return load_npz(path, size, channels)
    if suffix == ".csv":
        return load_csv(path, label_column)
    if suffix == ".mat":
        return load_mat(path)
    raise InputError(
        f"{path}: expected a folder of images or a file ending in {', '.join(_SUFFIXES)}, received '{suffix}'"
    )


def _check_size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, int | np.integer) else tuple(image_size)
    if len(size) != 2 or any(side < 1 for side in size):
        raise InputError(f"expected an image size of one or two numbers over 0, received {image_size}")
    return int(size[0]), int(size[1])


def _find(spec: str | Path) -> Path:
    path = Path(spec).expanduser()
    if path.exists():
        return path
    looked = [str(path)]
    root = os.environ.get("AGAD_TF_DATA")
    if root and not path.is_absolute():
        for name in (str(path), *(f"{path}{suffix}" for suffix in _SUFFIXES)):
            for candidate in (Path(root) / name, *sorted(Path(root).glob(f"*/{name}"))):
                if candidate.exists():
                    return candidate
            looked.append(f"{Path(root) / name} (and one folder deeper)")
    hint = "" if root else "; set AGAD_TF_DATA to the folder of your data sets to give bare names"
    raise InputError(
        f"expected 'digits' or an existing file or folder, found none of: {', '.join(looked)}{hint}"
    )


def _digits(image_size: tuple[int, int] | None, channels: int | None) -> Samples:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    x = image_array(images, "digits", image_size, channels)
    return Samples("digits", x, digits.target.astype(np.int64), tuple(str(digit) for digit in range(10)))


def list_images(folder: str | Path) -> list[Path]:
    """All JPEG, PNG and BMP files under a folder, sorted by path; hidden files and folders are passed over.

    Files of other kinds are passed over with a warning in the log that counts them.
    """
    folder = Path(folder)
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(piece.startswith(".") for piece in file.relative_to(folder).parts)
    )
    images = [file for file in files if file.suffix.casefold() in IMAGE_SUFFIXES]
    if len(images) < len(files):
        other = next(file for file in files if file.suffix.casefold() not in IMAGE_SUFFIXES)
        _log.warning(
            "%s: %d files are no JPEG, PNG or BMP and are not read, e.g. %s",
            folder,
            len(files) - len(images),
            other,
        )
    return images


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _load_folder(root: Path, image_size: tuple[int, int] | None, channels: int | None) -> Samples:
    parts = {
        _PARTS[entry.name.casefold()]: entry for entry in _subfolders(root) if entry.name.casefold() in _PARTS
    }
    if "train" in parts and "test" in parts:
        unused = [entry.name for entry in _subfolders(root) if entry not in parts.values()]
        if unused:
            _log.warning("%s: beside the parts these folders are not read: %s", root, ", ".join(unused))
        found = {part: _class_files(folder) for part, folder in sorted(parts.items())}
    else:
        found = {"": _class_files(root)}
    class_names = tuple(sorted({name for classes in found.values() for name in classes}))
    files = [
        (file, class_names.index(name), part)
        for part, classes in found.items()
        for name, members in classes.items()
        for file in members
    ]
    if not files:
        raise InputError(f"{root}: expected JPEG, PNG or BMP images in its class folders, received none")
    x = decode_all(
        len(files), lambda i: read_image(files[i][0]), lambda i: str(files[i][0]), image_size, channels
    )
    return Samples(
        root.resolve().name,
        x,
        np.array([index for _, index, _ in files], np.int64),
        class_names,
        part=None if "" in found else np.array([part for _, _, part in files]),
        normal_classes=normal_by_name(class_names),
        paths=tuple(str(file) for file, _, _ in files),
    )


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Class name to its image files; a class without images stays, with a warning."""
    classes = {entry.name: list_images(entry) for entry in _subfolders(folder)}
    if not classes:
        count = len(list_images(folder))
        received = f"{count} images directly in it" if count else "an empty folder"
        raise InputError(
            f"{folder}: expected folders named after the classes (normal/ and anomaly/, or one a class), "
            f"received {received}; sort the images into such folders"
        )
    for name, members in classes.items():
        if not members:
            _log.warning("%s: no images in class folder '%s'", folder, name)
    return classes
