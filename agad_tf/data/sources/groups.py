"""Groups of files that belong together: the photos of one part, the slices of one patient."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from agad_tf.errors import InputError

_log = logging.getLogger(__name__)

PARENT = "parent"


def group_by_path(paths: Sequence[str], rule: str, what: str) -> np.ndarray:
    """The group of each file, by its path.

    Args:
        paths: relative to the folder of the source.
        rule: "parent" for the folder that holds the file; or a regular expression, searched in the path with
            "/" between folders, whose first group in parentheses, or else whose match, names the group.
        what: name of the source, for errors.

    Returns:
        (n,) strings; "" for a file in whose path nothing is found: it is a group of its own.

    Raises:
        InputError: no regular expression, or one that finds nothing, or the same in every path.
    """
    texts = [PurePath(path).as_posix() for path in paths]
    if not any(texts):
        raise InputError(f"{what}: expected files, whose paths a group is read from, received images without")
    if rule == PARENT:
        found = [str(PurePath(text).parent) for text in texts]
    else:
        try:
            pattern = re.compile(rule)
        except re.error as error:
            raise InputError(
                f"group expects {PARENT} or a regular expression, received {rule!r} ({error})"
            ) from None
        matches = [pattern.search(text) for text in texts]
        found = [_named(match) if match else "" for match in matches]
    named = [name for name in found if name]
    if len(set(named)) < 2:
        received = f"one for all, '{named[0]}'" if named else "none"
        raise InputError(
            f"{what}: expected several groups by {rule!r}, received {received}, e.g. in '{texts[0]}'; "
            "change the rule"
        )
    if len(named) < len(found):
        _log.warning(
            "%s: %d of %d files are in no group by %r, e.g. '%s': each is taken as a group of its own",
            what, len(found) - len(named), len(found), rule, texts[found.index("")],
        )  # fmt: skip
    return np.array(found)


def _named(match: re.Match) -> str:
    return (match.group(1) if match.re.groups else match.group()) or ""
