"""Folders of images: which folder is a part, a class, a kind of defect, or holds the masks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.data.samples import NORMAL_NAMES, normal_by_name
from agad_tf.data.sources.files import LeftOut, find_images, subfolders, tell
from agad_tf.data.sources.listing import PARTS, Listing
from agad_tf.errors import InputError

_log = logging.getLogger(__name__)
_MASKS = "ground_truth"
_KINDS_IN = ("anomaly", "anomalies", "anomalous", "abnormal", "defect", "defects", "bad")
"""Folders whose subfolders are kinds of anomaly, a class each."""
_EMPTY = "a folder without images"


@dataclass(frozen=True)
class _Row:
    """An image: its file, its class, its part, and its path under the folder of its part."""

    file: Path
    name: str
    part: str
    inner: Path

    @property
    def normal(self) -> bool:
        return self.name.casefold() in NORMAL_NAMES


def list_folder(root: Path) -> Listing:
    """Lists `normal/` and `anomaly/`, one folder a class, or such folders in `train/`, `test/` and `val/`.

    Subfolders of `anomaly/` (or defect, bad and the like) are kinds of anomaly: each is a class of its name.
    Subfolders of other class folders belong to the class. Links are followed. A class folder without images
    is no class, but for `normal/` or `good/`.

    Where `ground_truth/` lies beside them (the layout of MVTec AD), the mask of `test/<defect>/<name>.*` or
    `anomaly/<defect>/<name>.*` is `ground_truth/<defect>/<name>_mask.*` or `<name>.*`, or the folder
    `<name>/` of several (MVTec LOCO). The mask of `train/<defect>/<name>.*` is looked for under
    `ground_truth/train/`, then in the same place where no test image has it. Paths of masks are kept.

    Everything under `root` that is not read is told in the log.

    Raises:
        InputError: no class folders, no images in them, classes beside parts, or two folders for one part.
    """
    images, left_out = find_images(root)
    masks = [file for file in images if _top(root, file).casefold() == _MASKS]
    images = [file for file in images if _top(root, file).casefold() != _MASKS]
    direct = [file for file in images if file.parent == root]
    tops = sorted({_top(root, file) for file in images} - {file.name for file in direct})
    parts = _parts(root, tops, left_out)
    rows = []
    for part, name in parts.items():
        folder = root / name
        members = [file for file in images if folder in file.parents]
        direct += [file for file in members if file.parent == folder]
        _check_classes(folder, sum(file.parent == folder for file in members))
        rows += _rows(folder, part, members)
        left_out += _empty(folder)
    if not parts:
        _check_classes(root, len(direct))
        rows = _rows(root, "", images)
    if not rows:
        raise InputError(f"{root}: expected JPEG, PNG or BMP images in its class folders, received none")
    left_out += _empty(root)
    left_out += [LeftOut(file, "an image outside of the class folders") for file in direct]
    rows = _settle_parts(root, rows)
    found = _find_masks(root, rows, masks, left_out)
    tell(root, left_out)
    # An empty normal/ still says which class is normal: data of anomalies alone can be judged.
    empty = {one.path.name for one in left_out if one.reason == _EMPTY}
    named = {name for name in empty if name.casefold() in NORMAL_NAMES}
    class_names = tuple(sorted({row.name for row in rows} | named))
    return Listing(
        root.resolve().name,
        root,
        tuple(row.file for row in rows),
        np.array([class_names.index(row.name) for row in rows], np.int64),
        class_names,
        np.array([row.part for row in rows]) if rows[0].part else None,
        normal_by_name(class_names),
        found,
        left_out=tuple(left_out),
    )


def _top(root: Path, file: Path) -> str:
    return file.relative_to(root).parts[0]


def _empty(folder: Path) -> list[LeftOut]:
    return [LeftOut(entry, _EMPTY) for entry in subfolders(folder) if not find_images(entry)[0]]


def _check_classes(folder: Path, direct: int) -> None:
    if not subfolders(folder):
        received = f"{direct} images directly in it" if direct else "an empty folder"
        raise InputError(
            f"{folder}: expected folders named after the classes (normal/ and anomaly/, or one a class), "
            f"received {received}; sort the images into such folders"
        )


def _parts(root: Path, tops: list[str], left_out: list[LeftOut]) -> dict[str, str]:
    """Part to the name of its folder, in the order of the parts; empty where the folders are classes."""
    parts: dict[str, str] = {}
    for top in tops:
        part = PARTS.get(top.casefold())
        if part in parts:
            raise InputError(
                f"{root}: expected one folder for the part {part}, received {parts[part]} and {top}; put "
                "their images into one"
            )
        if part is not None:
            parts[part] = top
    others = [top for top in tops if top not in parts.values()]
    if parts and others:
        if not {"train", "test"} <= set(parts):
            raise InputError(
                f"{root}: expected class folders, or the parts train and test, received both: "
                f"{', '.join(parts.values())} beside {', '.join(others[:5])}; put the classes into the "
                "parts, or rename a class that is called like a part"
            )
        left_out += [LeftOut(root / other, "a folder beside the parts") for other in others]
    return dict(sorted(parts.items()))


def _rows(folder: Path, part: str, members: list[Path]) -> list[_Row]:
    """The images below the class folders in `folder`, class after class."""
    rows = []
    inner = [file.relative_to(folder) for file in members if file.parent != folder]
    names = {path.parts[0] for path in inner}
    for path in inner:
        name, *below = path.parts[:-1]
        if below and name.casefold() in _KINDS_IN:
            kind = below[0]
            name = f"{name}/{kind}" if kind in names or kind.casefold() in NORMAL_NAMES else kind
        rows.append(_Row(folder / path, name, part, path))
    return sorted(rows, key=lambda row: row.name)


def _settle_parts(root: Path, rows: list[_Row]) -> list[_Row]:
    """Rows of a set that has a training and a test part, or of one without parts."""
    found = {row.part for row in rows}
    if found == {""} or {"train", "test"} <= found:
        return rows
    if found == {"train", "validation"}:
        _log.warning("%s: no test/ is there: the validation part is taken as the test", root)
        return [_Row(r.file, r.name, r.part.replace("validation", "test"), r.inner) for r in rows]
    _log.warning("%s: train/ and test/ are not both there: all is taken as one set without a split", root)
    return [_Row(row.file, row.name, "", row.inner) for row in rows]


def _find_masks(
    root: Path, rows: list[_Row], masks: list[Path], left_out: list[LeftOut]
) -> tuple[str | None, ...] | None:
    """The mask of each row, or the folder of its masks; None where there is no mask at all."""
    if not masks:
        return None
    folder = root / _top(root, masks[0])
    stored: dict[Path, Path] = {}
    for mask in masks:
        stored[mask.relative_to(folder).with_suffix("")] = mask
    for mask in masks:
        stored.setdefault(mask.parent.relative_to(folder), mask.parent)
    found: dict[Path, Path] = {}
    # Test images first: what is stored without the name of a part is theirs.
    for row in sorted(rows, key=lambda row: row.part == "train"):
        image = row.inner.with_suffix("")
        places = [Path(row.part, image), image]
        if image.parts[0].casefold() in _KINDS_IN and len(image.parts) > 2:
            places.append(Path(*image.parts[1:]))
        keys = [key for place in places for key in (place.with_name(f"{place.name}_mask"), place)]
        key = next((key for key in keys if key in stored), None)
        if key is not None and not row.normal:
            found[row.file] = stored.pop(key)
    used = set(found.values())
    unused = [mask for mask in masks if mask not in used and mask.parent not in used]
    left_out += [LeftOut(mask, "a mask without its image") for mask in unused]
    return tuple(str(found[row.file]) if row.file in found else None for row in rows)
