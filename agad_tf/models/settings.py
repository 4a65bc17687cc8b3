"""The settings of `compile`: kept by the names of its signature, and checked."""

from __future__ import annotations

from agad_tf.errors import InputError


def settings_of(arguments: dict) -> dict:
    """The settings of a `compile`, by name, from its `locals()`, what `**stabilisers` hold among them."""
    named = {k: v for k, v in arguments.items() if k not in ("self", "__class__", "stabilisers")}
    return named | arguments.get("stabilisers", {})


def check_settings(
    settings: dict,
    not_negative: tuple[str, ...] = (),
    shares: tuple[str, ...] = (),
    choices: dict[str, tuple[str, ...]] | None = None,
    optional: tuple[str, ...] = (),
) -> None:
    """Refuses settings of `compile` that cannot be meant.

    Args:
        settings: names and values.
        not_negative: names of numbers of at least 0, besides `average_epochs`.
        shares: names of numbers in [0, 1].
        choices: names of settings that are one of a few words, and the words.
        optional: names of numbers that may be None.

    Raises:
        InputError: names the setting.
    """
    for name, known in (choices or {}).items():
        if settings[name] not in known:
            raise InputError(f"{name} expects one of {', '.join(known)}, received {settings[name]!r}")
    for name in (*not_negative, *({"average_epochs"} & settings.keys())):
        value = settings[name]
        if value is None and name in optional:
            continue
        if value is None or not value >= 0:
            raise InputError(f"{name} expects a number of at least 0, received {value}")
    for name in shares:
        if settings[name] is None or not 0 <= settings[name] <= 1:
            raise InputError(f"{name} expects a share from 0 to 1, received {settings[name]}")
    if settings["clip_norm"] is not None and not settings["clip_norm"] > 0:
        raise InputError(
            f"clip_norm expects a number above 0, or None for none; received {settings['clip_norm']}"
        )
