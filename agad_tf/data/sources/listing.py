"""Which image files a source has, and what each of them is; nothing is decoded here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.csv_rows import CsvFile
from agad_tf.data.samples import NORMAL_NAMES, normal_by_name
from agad_tf.data.sources.images import IMAGE_SUFFIXES
from agad_tf.errors import InputError

_log = logging.getLogger(__name__)
_PARTS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_MASKS = "ground_truth"
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
        class_names: one name a class; a class may have no file.
        part: (n,) of 'train', 'validation' or 'test' where the source gives a split, else None.
        normal_classes: indices of the normal classes where the source says so, else None.
        masks: pixel masks of the anomalies, one a row, None where there is none; None without any.
        other_files: files beside the images that are no JPEG, PNG or BMP.
    """

    name: str
    root: Path
    files: tuple[Path, ...]
    classes: np.ndarray
    class_names: tuple[str, ...]
    part: np.ndarray | None
    normal_classes: tuple[int, ...] | None
    masks: tuple[str | None, ...] | None = None
    other_files: tuple[Path, ...] = ()


def list_images(folder: str | Path) -> list[Path]:
    """All JPEG, PNG and BMP files under a folder, sorted by path; hidden files and folders are passed over.

    Files of other kinds are passed over with a warning in the log that counts them.
    """
    images, others = _files(Path(folder))
    if others:
        _log.warning(
            "%s: %d files are no JPEG, PNG or BMP and are not read, e.g. %s", folder, len(others), others[0]
        )
    return images


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(piece.startswith(".") for piece in file.relative_to(folder).parts)
    )
    images = [file for file in files if file.suffix.casefold() in IMAGE_SUFFIXES]
    return images, [file for file in files if file.suffix.casefold() not in IMAGE_SUFFIXES]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def list_folder(root: Path) -> Listing:
    """Lists `normal/` and `anomaly/`, one folder a class, or such folders in `train/`, `test/` and `val/`.

    Where `ground_truth/` lies beside `train/` and `test/` (the layout of MVTec AD), the mask of
    `test/<defect>/<name>.*` is `ground_truth/<defect>/<name>_mask.*` or `<name>.*`; its path is kept.

    Raises:
        InputError: no class folders, or no images in them.
    """
    parts = {
        _PARTS[entry.name.casefold()]: entry for entry in _subfolders(root) if entry.name.casefold() in _PARTS
    }
    if "train" in parts and "test" in parts:
        unused = [e.name for e in _subfolders(root) if e not in parts.values() and e.name != _MASKS]
        if unused:
            _log.warning("%s: beside the parts these folders are not read: %s", root, ", ".join(unused))
        found = {part: _class_files(folder) for part, folder in sorted(parts.items())}
    else:
        parts, found = {}, {"": _class_files(root)}
    class_names = tuple(sorted({name for classes in found.values() for name in classes}))
    rows = [
        (file, class_names.index(name), part)
        for part, classes in found.items()
        for name, members in classes.items()
        for file in members
    ]
    if not rows:
        raise InputError(f"{root}: expected JPEG, PNG or BMP images in its class folders, received none")
    masks = None
    if parts and (root / _MASKS).is_dir():
        stored = {
            file.relative_to(root / _MASKS).with_suffix(""): str(file) for file in _files(root / _MASKS)[0]
        }
        masks = tuple(_mask(stored, file, parts[part]) if part == "test" else None for file, _, part in rows)
    return Listing(
        root.resolve().name,
        root,
        tuple(file for file, _, _ in rows),
        np.array([index for _, index, _ in rows], np.int64),
        class_names,
        np.array([part for _, _, part in rows]) if parts else None,
        normal_by_name(class_names),
        masks,
        tuple(other for folder in (parts.values() or [root]) for other in _files(folder)[1]),
    )


def _mask(stored: dict[Path, str], file: Path, part: Path) -> str | None:
    image = file.relative_to(part).with_suffix("")
    return stored.get(image.with_name(f"{image.name}_mask"), stored.get(image))


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
    - mask: pixel mask of an anomaly, relative to the manifest's folder, or empty.

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
    return Listing(
        path.stem,
        path.parent,
        tuple(files),
        np.array([class_names.index(name) for name in names], np.int64),
        class_names,
        _parts(path, records) if "split" in columns else None,
        normal,
        masks,
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
        if text.casefold() not in _PARTS:
            raise InputError(
                f"{path} line {line}: expected split train, validation or test, received '{text}'; fill it "
                "in every row or in none"
            )
    return np.array([_PARTS[text.casefold()] for _, text in given])
