"""Where samples come from: one function, whatever the layout of the user's data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agad_tf.data.rows import LazyRows
from agad_tf.data.samples import Samples
from agad_tf.data.sources.arrays import archive_is_table, load_npz
from agad_tf.data.sources.csv_table import load_csv
from agad_tf.data.sources.file_store import FileStore
from agad_tf.data.sources.files import check_readable
from agad_tf.data.sources.files import list_images as list_images
from agad_tf.data.sources.folders import list_folder
from agad_tf.data.sources.groups import group_by_path
from agad_tf.data.sources.images import check_crop, image_array, read_image
from agad_tf.data.sources.listing import Listing, is_manifest, list_manifest
from agad_tf.data.sources.shards import is_shard_folder, load_shards
from agad_tf.data.sources.tables import frame_samples, in_order, load_mat, with_encoding
from agad_tf.encoding import TableEncoding, check_policy
from agad_tf.errors import InputError
from agad_tf.frames import is_frame

__all__ = ["Samples", "list_images", "load_samples", "read_image"]

TFDS = "tfds:"
PHOTOS = "photos:"
_SUFFIXES = (".npz", ".csv", ".mat")


def load_samples(
    spec,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    label_column: str | int | None = None,
    crop: str = "stretch",
    columns: Sequence[str] | None = None,
    group: str | None = None,
    lazy: bool = False,
    missing: str = "refuse",
    encoding: TableEncoding | None = None,
) -> Samples:
    """Reads images or a table; into memory, except for shards, whose images are read when they are needed.

    Args:
        spec: one of
            - "digits": the 1797 handwritten digits of scikit-learn, 8 x 8 x 1, no split of their own;
            - "photos:plate", "photos:gear" or "photos:fabric": rendered photographs with defects, see
              `agad_tf.data.rendered`;
            - an `.npz` archive (see `agad_tf.data.sources.arrays.load_npz` for the layouts);
            - a `.csv` table or an ODDS `.mat` file;
            - a folder with `normal/` (or `good/`) and `anomaly/`, or one folder a class, or `train/` and
              `test/` (and `val/`) that each hold such folders, with or without the `ground_truth/` of MVTec
              AD. JPEG, PNG and BMP files, read as `read_image` says;
            - a `.csv` manifest of image files (see `agad_tf.data.sources.listing.list_manifest`);
            - a folder of shards that `agad-tf prepare` wrote;
            - a data frame of pandas with a label column;
            - "tfds:NAME": an image classification set of TensorFlow Datasets (extra `tfds`).
            A relative path that does not exist is also looked for under the folder in $AGAD_TF_DATA and in
            its direct subfolders, with and without the suffixes above.
        image_size: (height, width), or one number for both; images are resized bilinearly and rounded. None
            keeps the size, which must then be the same for all.
        channels: 1 or 3; None keeps 1 where every image is grey, else 3.
        label_column: name or position of the label in a CSV file; None: see
            `agad_tf.data.sources.csv_table.load_csv`.
        crop: what a resize does to another aspect: "stretch" it, or cut out the "centre" of the new aspect.
        columns: names of the columns that a table must have, in the order they are wanted; None takes those
            that it has.
        group: which files belong together and must stay on one side of a split: "parent" for those of one
            folder, or a regular expression for their paths below the source, whose first parentheses (or
            whole match) name the group: `"part(\\\\d+)"`. None takes the column or array `group` of a
            list, an archive or shards, if there is one.
        lazy: image files stay where they are: `x` is a `LazyRows` that decodes them when they are asked for.

        missing: values of a table: "refuse" them; keep them as NaN, for a detector that fills them with the
            "median" of its training normals (of categories the most frequent); or that and an "indicator", an
            entry that tells it, in columns that have some.
        encoding: of the table that a detector was trained on: its categories and what it does with missing
            values. None learns it: the `encoding` of the samples is for a detector's `encoding`.

    Returns:
        The samples. Images are uint8 (n, height, width, channels): integer arrays are taken as 0..255, floats
        as [0, 1], times 255 and rounded; those of shards are a `LazyRows` of the same shape. Tables are
        float64 (n, features) with raw values; categories are codes, missing values NaN.

    Raises:
        InputError: nothing found (says where it looked), unknown layout, no or unreadable images, mixed
            sizes, values or labels that are missing, infinite, of another type or of another length.
    """
    size = check_size(image_size)
    check_crop(crop)
    if channels not in (None, 1, 3):
        raise InputError(
            f"expected channels 1 or 3, received {channels}; leave it out to keep what the images have"
        )
    check_policy(missing)
    if missing != "refuse" and not is_table(spec):
        raise InputError(f"{spec}: expected a table for missing={missing}, received images: leave it out")
    if is_frame(spec):
        _check_no_group("frame", group)
        return frame_samples(spec, label_column, columns, missing, encoding)
    if spec == "digits":
        _check_no_group(spec, group)
        return _digits(size, channels)
    if str(spec).startswith(PHOTOS):
        from agad_tf.data.rendered import load_photos

        _check_no_group(spec, group)
        return load_photos(str(spec).removeprefix(PHOTOS), size, channels)
    if str(spec).startswith(TFDS):
        from agad_tf.data.sources.tfds import load_tfds

        _check_no_group(spec, group)
        return load_tfds(str(spec).removeprefix(TFDS), size, channels, crop)
    path = find(spec)
    if path.is_dir() and is_shard_folder(path):
        return load_shards(path, size, channels, group)
    listing = list_source(path)
    if listing is not None:
        if group is not None:
            relative = [os.path.relpath(file, listing.root) for file in listing.files]
            listing = replace(listing, group=group_by_path(relative, group, listing.name))
        return _load_listing(listing, size, channels, crop, lazy)
    _check_no_group(path, group)
    suffix = path.suffix.casefold()
    gaps = missing != "refuse" if encoding is None else encoding.allows_gaps
    if suffix == ".npz":
        archive = load_npz(path, size, channels, crop, gaps)
        return with_encoding(in_order(archive, columns), missing, encoding)
    if suffix == ".csv":
        return load_csv(path, label_column, columns, missing, encoding)
    if suffix == ".mat":
        return with_encoding(in_order(load_mat(path, gaps), columns), missing, encoding)
    raise InputError(
        f"{path}: expected a folder of images or a file ending in {', '.join(_SUFFIXES)}, received '{suffix}'"
    )


def _check_no_group(spec: str | Path, group: str | None) -> None:
    if group is not None:
        raise InputError(
            f"{spec}: expected image files for group={group!r}, received another kind of source; give an "
            "archive the array 'group' instead"
        )


def is_table(spec) -> bool:
    """Whether a source holds rows of a table and not images; nothing but names and headers is read.

    False also for what cannot be read: `load_samples` says what is wrong with it.
    """
    if is_frame(spec):
        return True
    if spec == "digits" or str(spec).startswith((PHOTOS, TFDS)):
        return False
    path = find(spec)
    suffix = path.suffix.casefold()
    if path.is_dir() or suffix not in _SUFFIXES:
        return False
    if suffix == ".npz":
        return archive_is_table(path)
    return suffix == ".mat" or not is_manifest(path)


def list_source(path: Path) -> Listing | None:
    """The image files of a folder or of a CSV manifest; None for everything else."""
    if path.is_dir():
        return list_folder(path)
    if path.suffix.casefold() == ".csv" and is_manifest(path):
        return list_manifest(path)
    return None


def check_size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(height, width) of an image size as users write it."""
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, int | np.integer) else tuple(image_size)
    if len(size) != 2 or any(side < 1 for side in size):
        raise InputError(f"expected an image size of one or two numbers over 0, received {image_size}")
    return int(size[0]), int(size[1])


def find(spec: str | Path) -> Path:
    """The file or folder that a source names; see `load_samples` for where it looks."""
    path = Path(spec).expanduser()
    if path.exists():
        check_readable(path)
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
        "expected 'digits', 'photos:plate' or an existing file or folder, found none of: "
        f"{', '.join(looked)}{hint}"
    )


def _digits(image_size: tuple[int, int] | None, channels: int | None) -> Samples:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    x = image_array(images, "digits", image_size, channels)
    return Samples("digits", x, digits.target.astype(np.int64), tuple(str(digit) for digit in range(10)))


def _load_listing(
    listing: Listing, image_size: tuple[int, int] | None, channels: int | None, crop: str, lazy: bool
) -> Samples:
    store = FileStore(listing, image_size, channels, crop)
    if not lazy:
        store.check_depth()
    return Samples(
        listing.name,
        LazyRows(store, np.arange(len(listing.files))) if lazy else store.all(),
        listing.classes,
        listing.class_names,
        part=listing.part,
        normal_classes=listing.normal_classes,
        paths=tuple(str(file) for file in listing.files),
        masks=listing.masks,
        group=listing.group,
    )
