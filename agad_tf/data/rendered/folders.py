"""Rendered photographs as files, in the layouts that users have."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from agad_tf.data.rendered.photos import NORMAL, Photos
from agad_tf.errors import InputError
from agad_tf.files import write_atomically

LAYOUTS = ("classes", "mvtec")
LIST = "photos.csv"


def write_folder(
    photos: Photos, folder: str | Path, layout: str = "classes", test: float = 0.25, quality: int = 92
) -> Path:
    """Writes photographs as JPEG files, their masks as PNG, and a list of both.

    Args:
        photos: what `render` returns.
        folder: to write into; made where it is missing, must be empty otherwise.
        layout: "classes": `normal/`, `anomaly/<kind>/`; "mvtec": `train/good/`, `test/good/`,
            `test/<kind>/`. Masks go to `ground_truth/<kind>/<name>_mask.png` in both.
        test: "mvtec" only: share of the good parts whose photographs go to `test/good/`, from 0 to below 1.
        quality: of the JPEG files, 1 to 95.

    Returns:
        The list, `folder/photos.csv`: columns path, class, split ("mvtec" only), mask and group, the number
        of the part. The folder itself loads too, but does not tell which photographs show the same part.

    Raises:
        InputError: an unknown layout, a share out of range, or a folder with something in it.
    """
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise InputError(f"expected a layout of {', '.join(LAYOUTS)}, received '{layout}'")
    if not 0 <= test < 1:
        raise InputError(f"expected test as a share from 0 to below 1, received {test}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: expected a new or an empty folder, received one with something in it")
    good = np.unique(photos.groups[photos.kinds == NORMAL])
    held_out = set(good[len(good) - round(test * len(good)) :].tolist())
    columns = ["path", "class", *(["split"] if layout == "mvtec" else []), "mask", "group"]
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    seen: dict[str, int] = {}
    for image, kind, mask, group in zip(
        photos.images, photos.kinds.tolist(), photos.masks, photos.groups.tolist(), strict=True
    ):
        name = f"{group}_{seen.setdefault(group, 0)}"
        seen[group] += 1
        split = "train" if kind == NORMAL and group not in held_out else "test"
        if layout == "mvtec":
            place = f"{split}/{'good' if kind == NORMAL else kind}"
        else:
            place = NORMAL if kind == NORMAL else f"anomaly/{kind}"
        path = f"{place}/{name}.jpg"
        _save(folder / path, image, "JPEG", quality=quality, subsampling=0)
        mask_path = ""
        if kind != NORMAL:
            mask_path = f"ground_truth/{kind}/{name}_mask.png"
            _save(folder / mask_path, mask.astype(np.uint8) * np.uint8(255), "PNG")
        row = {"path": path, "class": kind, "split": split, "mask": mask_path, "group": group}
        writer.writerow(row)
    write_atomically(folder / LIST, table.getvalue().encode())
    return folder / LIST


def _save(path: Path, pixels: np.ndarray, form: str, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, form, **options)
