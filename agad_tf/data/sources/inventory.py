"""What there is to prepare: all labels at once, the images one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.data.content import pixel_digest
from agad_tf.data.samples import Samples
from agad_tf.data.sources import shards as records
from agad_tf.data.sources.images import read_image
from agad_tf.data.sources.listing import Listing
from agad_tf.data.sources.load import PHOTOS, TFDS, find, list_source, load_samples
from agad_tf.errors import InputError


@dataclass(frozen=True)
class Inventory:
    """What `prepare` reads: labels at once, images one by one."""

    name: str
    root: Path
    classes: np.ndarray
    class_names: tuple[str, ...]
    normal_classes: tuple[int, ...] | None
    part: np.ndarray | None
    paths: Sequence[str]  # relative to root; empty texts where there are no files
    masks: Sequence[str]
    read: Callable[[int], np.ndarray]
    identity: Callable[[int], bytes]  # what tells whether an image has changed since
    other_files: tuple[str, ...] = ()


def take_inventory(spec: str | Path, channels: int | None, out: Path) -> Inventory:
    """Folders and manifests are listed, other sources read as a whole.

    Raises:
        InputError: see `load_samples`; a table; shards; an `out` inside of the source.
    """
    if str(spec) != "digits" and not str(spec).startswith((TFDS, PHOTOS)):
        path = find(spec)
        if path.is_dir() and records.is_shard_folder(path):
            raise InputError(
                f"{path}: expected images, received shards that are prepared already; train on them"
            )
        listing = list_source(path)
        if listing is not None:
            if path.is_dir() and path.resolve() in out.resolve().parents:
                raise InputError(f"{out}: expected a folder outside of the source {path}; choose another OUT")
            return _from_listing(listing)
    return _from_samples(load_samples(spec, channels=channels))


def _from_listing(listing: Listing) -> Inventory:
    files = listing.files

    def relative(path: Path | str | None) -> str:
        return "" if path is None else os.path.relpath(path, listing.root)

    def identity(row: int) -> bytes:
        found = files[row].stat()
        return records.encoded(f"{relative(files[row])}:{found.st_size}:{found.st_mtime_ns}")

    return Inventory(
        listing.name,
        listing.root.resolve(),
        listing.classes,
        listing.class_names,
        listing.normal_classes,
        listing.part,
        [relative(file) for file in files],
        [relative(mask) for mask in listing.masks or [None] * len(files)],
        lambda row: read_image(files[row]),
        identity,
        tuple(relative(file) for file in listing.other_files),
    )


def _from_samples(samples: Samples) -> Inventory:
    if samples.x.ndim != 4:
        raise InputError(
            f"{samples.name}: expected images to prepare, received a table; train on it directly"
        )
    nothing = [""] * len(samples.x)
    return Inventory(
        samples.name,
        Path(),
        samples.classes,
        samples.class_names,
        samples.normal_classes,
        samples.part,
        nothing,
        nothing,
        lambda row: samples.x[row],
        lambda row: pixel_digest(samples.x[row]),
    )
