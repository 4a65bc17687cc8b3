"""Whether an array that a file announces can be held at all."""

from __future__ import annotations

import os

from agad_tf.errors import InputError


def check_memory(needed: int, what: str) -> None:
    """Refuses an array larger than this machine's memory before it is allocated.

    Raises:
        InputError: `needed` bytes are more than there are.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise InputError(
            f"{what}: expected an array that fits into this machine's memory of {memory / 2**30:.0f} GiB, "
            f"received one of {needed / 2**30:.3g} GiB; make it smaller"
        )
