"""Which image files a source has, and what each of them is; nothing is decoded here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.csv_rows import CsvFile
from agad_tf.data.samples import NORMAL_NAMES, normal_by_name
from agad_tf.data.sources.files import LeftOut
from agad_tf.errors import InputError

_log = logging.getLogger(__name__)
PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What the parts of a split are called in folders and lists."""

_PATH_NAMES = ("path", "file", "filename", "image")
_ANOMALY_NAMES = ("1", "anomaly", "anomalous", "defect", "bad")


@dataclass(frozen=True, eq=False)
class Listing:
    """Image files with their classes, as a folder or a manifest gives them.

    Attributes:
        name: what the set is called in logs and results.
        root: folder that the files are told relative to.
        files: one a row.
        classes: int64 (n,), index into `class_names`.
        class_names: one name a class; a normal class may have no file.
        part: (n,) of 'train', 'validation' or 'test' where the source gives a split, else None.
        normal_classes: indices of the normal classes where the source says so, else None.
        masks: pixel masks of the anomalies, one a row, None where there is none; None without any.
        group: (n,) strings, see `Samples`; None without any.
        left_out: what lies beside the images and is not read, with the reason.
    """

    name: str
    root: Path
    files: tuple[Path, ...]
    classes: np.ndarray
    class_names: tuple[str, ...]
    part: np.ndarray | None
    normal_classes: tuple[int, ...] | None
    masks: tuple[str | None, ...] | None = None
    group: np.ndarray | None = None
    left_out: tuple[LeftOut, ...] = ()


def is_manifest(path: Path) -> bool:
    """Whether a CSV file lists images: its header names a column path (file, filename, image)."""
    names = CsvFile(path, header=True).names
    return any(name.casefold() in _PATH_NAMES for name in names)


def list_manifest(path: Path) -> Listing:
    """Lists the images of a CSV file with a header and the columns path, label, class, split and mask.

    - path (or file, filename, image): the image, relative to the manifest's folder;
    - label: 0, normal or good; 1, anomaly, anomalous, defect or bad. Not needed where the classes say it;
    - class: any name; without it the classes are normal and anomaly;
    - split: train, validation (val, valid) or test, in every row or in none;
    - mask: pixel mask of an anomaly, relative to the manifest's folder, or a folder of several, or empty;
    - group: which images belong together (part, patient), in any words; empty for one that stands alone.

    Other columns are not read.

    Raises:
        InputError: neither label nor class, a missing file, an unknown label or split, a class with both
            labels; names the line.
    """
    file = CsvFile(path, header=True)
    columns = [name.casefold() for name in file.names]
    records = []
    for row in file:
        if row.error is not None:
            raise InputError(f"{path} line {row.line}: {row.error}")
        if row.blank:
            _log.warning("%s: line %d is empty: passed over", path, row.line)
        else:
            records.append((row.line, dict(zip(columns, row.cells, strict=True))))
    if not records:
        raise InputError(f"{path}: expected images under the header, received none; add rows")
    if "label" not in columns and "class" not in columns:
        raise InputError(
            f"{path}: expected a column label or class beside the paths, received "
            f"{', '.join(columns)}; add one"
        )
    path_column = next(name for name in columns if name in _PATH_NAMES)
    files = [path.parent / record.get(path_column, "") for _, record in records]
    for (line, record), file in zip(records, files, strict=True):
        if not file.is_file():
            raise InputError(
                f"{path} line {line}: expected an image file, found none at '{record.get(path_column, '')}'; "
                "give its path relative to the manifest"
            )
    labels = (
        [_label(path, line, record.get("label", "")) for line, record in records]
        if "label" in columns
        else None
    )
    if "class" in columns:
        names = [record.get("class", "") for _, record in records]
        empty = [line for (line, _), name in zip(records, names, strict=True) if not name]
        if empty:
            raise InputError(f"{path} line {empty[0]}: expected a class, received none; fill the column")
    else:
        names = [("normal", "anomaly")[label] for label in labels]
    class_names = tuple(sorted(set(names)))
    normal = (
        normal_by_name(class_names) if labels is None else _normal_classes(path, names, labels, class_names)
    )
    masks = None
    if "mask" in columns:
        given = [record.get("mask") for _, record in records]
        masks = tuple(str(path.parent / mask) if mask else None for mask in given)
        for (line, _), mask in zip(records, masks, strict=True):
            if mask is not None and not (Path(mask).is_file() or Path(mask).is_dir()):
                raise InputError(
                    f"{path} line {line}: expected a mask, found none at '{mask}'; give its path relative to "
                    "the manifest, or leave the cell empty"
                )
    return Listing(
        path.stem,
        path.parent,
        tuple(files),
        np.array([class_names.index(name) for name in names], np.int64),
        class_names,
        _parts(path, records) if "split" in columns else None,
        normal,
        masks,
        group=np.array([record.get("group", "") for _, record in records]) if "group" in columns else None,
    )


def _label(path: Path, line: int, text: str) -> int:
    folded = text.casefold()
    if folded in ("0", *NORMAL_NAMES):
        return 0
    if folded in _ANOMALY_NAMES:
        return 1
    raise InputError(
        f"{path} line {line}: expected label 0 or normal, 1 or anomaly, received '{text}'; "
        "put the kind of defect into a column class"
    )


def _normal_classes(
    path: Path, names: list[str], labels: list[int], class_names: tuple[str, ...]
) -> tuple[int, ...] | None:
    both = {name for name, label in zip(names, labels, strict=True) if label == 0} & {
        name for name, label in zip(names, labels, strict=True) if label == 1
    }
    if both:
        raise InputError(
            f"{path}: expected one label for each class, received both for class '{min(both)}'; "
            "name normal and anomalous rows differently"
        )
    normal = {name for name, label in zip(names, labels, strict=True) if label == 0}
    return tuple(index for index, name in enumerate(class_names) if name in normal) or None


def _parts(path: Path, records: list[tuple[int, dict[str, str]]]) -> np.ndarray | None:
    given = [(line, record.get("split", "")) for line, record in records]
    if not any(text for _, text in given):
        return None
    for line, text in given:
        if text.casefold() not in PARTS:
            raise InputError(
                f"{path} line {line}: expected split train, validation or test, received '{text}'; fill it "
                "in every row or in none"
            )
    return np.array([PARTS[text.casefold()] for _, text in given])
