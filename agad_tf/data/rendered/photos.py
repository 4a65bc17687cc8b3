"""Sets of rendered photographs: which parts, which defects, how many photographs of each."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from agad_tf.data.rendered import fabric, gear, plate
from agad_tf.data.rendered.scene import DESIGN_HEIGHT, DESIGN_WIDTH, Flaw, Frame, photograph
from agad_tf.errors import InputError

_MODULES = {"fabric": fabric, "gear": gear, "plate": plate}
OBJECTS = {name: module.KINDS for name, module in _MODULES.items()}
"""Name of each object: its kinds of defects."""

NORMAL = "normal"

_NUMBERS = 10_000


@dataclass(frozen=True, eq=False)
class Photos:
    """Rendered photographs, normals first, then one kind of defect after the other.

    Attributes:
        name: the object.
        images: uint8 (n, height, width, 3).
        kinds: (n,) strings, "normal" or the kind of defect.
        masks: bool (n, height, width), where the defect is.
        groups: (n,) strings, the number of the part: photographs of one part share it.
    """

    name: str
    images: np.ndarray
    kinds: np.ndarray
    masks: np.ndarray
    groups: np.ndarray


def render(
    name: str,
    n_normal: int,
    defects: Mapping[str, int] | None = None,
    seed: int = 0,
    size: tuple[int, int] = (DESIGN_HEIGHT, DESIGN_WIDTH),
    photos_per_part: int = 2,
    defect_scale: float = 1.0,
) -> Photos:
    """Renders photographs of one object. The same arguments give the same pixels.

    Args:
        name: "plate", "gear" or "fabric".
        n_normal: photographs of good parts, 0 or more.
        defects: kind of defect to number of photographs; None: no defects.
        seed: another one gives other parts, 0 or more.
        size: (height, width) in pixels, each at least 32. Parts and defects scale with it.
        photos_per_part: photographs of each part; the last part of a kind may have fewer.
        defect_scale: factor of the defects' sizes, from 1 to 3.

    Returns:
        The photographs.

    Raises:
        InputError: an unknown object or kind, or a number out of range.
    """
    defects = dict(defects or {})
    module = _check(name, n_normal, defects, seed, size, photos_per_part, defect_scale)
    height, width = (int(side) for side in size)
    picture = Frame(height, width, min(width / DESIGN_WIDTH, height / DESIGN_HEIGHT))
    drawn = _wider(picture, module.MARGIN)
    object_id = zlib.crc32(name.encode())
    ground = module.background(_wider(picture, 1.25), np.random.default_rng([seed, object_id, 0]))
    total = n_normal + sum(defects.values())
    images = np.empty((total, height, width, 3), np.uint8)
    masks = np.zeros((total, height, width), bool)
    kinds = np.repeat([NORMAL, *sorted(defects)], [n_normal, *(defects[kind] for kind in sorted(defects))])
    ends = np.flatnonzero(kinds[1:] != kinds[:-1]) + 1
    parts = [
        block[start : start + photos_per_part]
        for block in np.split(np.arange(total), ends)
        for start in range(0, len(block), photos_per_part)
    ]

    # Numbers say nothing of the kind: a detector that reads them must learn nothing from it.
    drawn_numbers = np.random.default_rng([seed, object_id, 4]).permutation(_NUMBERS)

    def shoot(index_of_part: int) -> None:
        rows = parts[index_of_part]
        kind = str(kinds[rows[0]])
        rng = np.random.default_rng([seed, object_id, 1, index_of_part])
        flaw = Flaw([seed, object_id, 2, index_of_part], defect_scale)
        number = int(drawn_numbers[index_of_part % _NUMBERS])
        part = module.part(drawn, number, None if kind == NORMAL else kind, rng, flaw)
        for index, row in enumerate(rows):
            rng = np.random.default_rng([seed, object_id, 3, index_of_part, index])
            pose = module.pose(rng)
            images[row], masks[row] = photograph(part, pose, _crop(ground, picture, rng), picture, rng)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(shoot, range(len(parts))))
    # Beyond 10,000 parts a stamped number comes again; the group stays the part's own.
    groups = np.concatenate(
        [[_group(int(drawn_numbers[i % _NUMBERS]), i)] * len(rows) for i, rows in enumerate(parts)]
    )
    return Photos(name, images, kinds.astype(str), masks, groups)


def _group(number: int, part: int) -> str:
    again = part // _NUMBERS
    return f"{number:04d}" + (f"-{again + 1}" if again else "")


def _wider(frame: Frame, margin: float) -> Frame:
    return Frame(round(margin * frame.height), round(margin * frame.width), frame.scale)


def _crop(ground: np.ndarray | None, picture: Frame, rng: np.random.Generator) -> np.ndarray | None:
    if ground is None:
        return None
    top = int(rng.integers(ground.shape[0] - picture.height + 1))
    left = int(rng.integers(ground.shape[1] - picture.width + 1))
    return ground[top : top + picture.height, left : left + picture.width]


def _check(name, n_normal, defects, seed, size, photos_per_part, defect_scale):
    if name not in _MODULES:
        raise InputError(f"expected an object of {', '.join(_MODULES)}, received '{name}'")
    unknown = sorted(set(defects) - set(OBJECTS[name]))
    if unknown:
        raise InputError(
            f"expected kinds of defects of a {name}: {', '.join(OBJECTS[name])}, received '{unknown[0]}'"
        )
    for what, value, least in (
        ("n_normal", n_normal, 0),
        *((f"photographs of {kind}", count, 0) for kind, count in defects.items()),
        ("seed", seed, 0),
        ("photos_per_part", photos_per_part, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"expected {what} as a whole number of {least} or more, received {value!r}")
    if np.shape(size) != (2,) or any(side < 32 for side in size):
        raise InputError(f"expected size as (height, width) of at least 32 pixels, received {size!r}")
    if not 1 <= defect_scale <= 3:
        raise InputError(f"expected defect_scale from 1 to 3, received {defect_scale!r}")
    if n_normal + sum(defects.values()) == 0:
        raise InputError("expected at least one photograph, received n_normal 0 and no defects")
    return _MODULES[name]
