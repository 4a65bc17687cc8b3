"""Twill cloth that fills the picture."""

from __future__ import annotations

import math

import numpy as np

from agad_tf.data.rendered.scene import Flaw, Frame, Part, Pose, around, blob, bump

KINDS = ("broken_thread", "hole", "knot", "oil")
_PITCH = 8.0
"""Distance of two threads, design pixels."""
MARGIN = 1.25
"""Grid that it is drawn on, in pictures."""


def part(frame: Frame, number: int, kind: str | None, rng: np.random.Generator, flaw: Flaw):
    """Weaves one piece of cloth; `rng` makes the cloth, `flaw` its defect."""
    x, y = frame.grid()
    # Threads are never quite straight, nor all of one thickness.
    across = (x + np.float32(1.6) * frame.noise(rng, 90, 60)) * np.float32(1 / _PITCH) + np.float32(256)
    down = (y + np.float32(1.6) * frame.noise(rng, 60, 90)) * np.float32(1 / _PITCH) + np.float32(256)
    warp, weft = np.floor(across), np.floor(down)
    along_x, along_y = across - warp, down - weft
    warp, weft = warp.astype(np.int32), weft.astype(np.int32)
    round_warp = 4 * along_x * (1 - along_x)
    round_weft = 4 * along_y * (1 - along_y)
    over = (warp + weft) % 4 < 2
    tones = rng.standard_normal((2, 512)).astype(np.float32)
    fibre = 5 * frame.noise(rng, 1.3, 4) + 4 * frame.noise(rng, 120, 120)
    height = np.where(over, round_warp, np.float32(0.85) * round_weft)
    tone = np.where(over, tones[0][warp % 512], tones[1][weft % 512]) * 5 + fibre
    light = (np.float32(0.62) + np.float32(0.38) * height)[..., None]
    base = np.array([[62, 82, 122], [148, 152, 160]], np.float32)
    colour = np.where(over[..., None], base[0], base[1]) + tone[..., None]
    cloth = Part(frame, np.ones_like(height), (colour * light).astype(np.float32), np.float32(0.8) * height)
    if kind == "broken_thread":
        _broken_thread(cloth, flaw, weft, over, height)
    elif kind is not None:
        _DEFECTS[kind](cloth, flaw)
    return cloth


def pose(rng: np.random.Generator) -> Pose:
    """The web runs a little askew, and nowhere stops at the same thread."""
    return Pose(
        math.radians(rng.normal(0, 1.5)), rng.uniform(-20, 20), rng.uniform(-20, 20),
        1 + 0.02 * rng.standard_normal(),
    )  # fmt: skip


def background(frame: Frame, rng: np.random.Generator) -> None:
    """None: the cloth fills the picture."""
    return


def _place(frame: Frame, flaw: Flaw, margin: float) -> tuple[float, float]:
    """Where every pose still shows it."""
    # The frame is larger than the picture by a quarter; poses move it by up to 20 more.
    half_width = 0.4 * frame.width / frame.scale - 34 - margin
    half_height = 0.4 * frame.height / frame.scale - 34 - margin
    return flaw.uniform(-half_width, half_width), flaw.uniform(-half_height, half_height)


def _broken_thread(cloth: Part, flaw: Flaw, weft: np.ndarray, over, height) -> None:
    """One weft thread is missing along a stretch: the warp shows, and the gap is dark."""
    length = flaw.size(24, 150)
    x, y = _place(cloth.frame, flaw, min(length / 2, 60))
    across, _ = cloth.frame.grid()
    thread = math.floor(y / _PITCH + 256)
    inside = (np.abs(across - np.float32(x)) < length / 2) & (weft == thread)
    gap = inside.astype(np.float32)
    bare = gap * ~over
    cloth.paint(bare, (44, 52, 74), 0.8)
    cloth.relief = cloth.relief - np.float32(0.7) * bare * height
    cloth.mark(gap)


def _hole(cloth: Part, flaw: Flaw) -> None:
    radius = flaw.size(3, 11)
    x, y = _place(cloth.frame, flaw, radius)
    shape, ends = cloth.frame.pen(), cloth.frame.pen()
    shape.polygon(blob(flaw, x, y, radius, 11))
    for _ in range(3):
        turn, reach = flaw.uniform(0, 2 * math.pi), radius * flaw.uniform(0.3, 1.0)
        edge = (x + 1.2 * radius * math.cos(turn), y + 1.2 * radius * math.sin(turn))
        tip = turn + math.pi + flaw.normal(0, 0.5)
        ends.line([edge, (edge[0] + reach * math.cos(tip), edge[1] + reach * math.sin(tip))], 1.6)
    shape, ends = shape.layer(0.5), ends.layer(0.4)
    cloth.paint(shape, (22, 22, 26), 0.85)
    cloth.paint(ends, (128, 134, 146), 0.7)
    cloth.relief = cloth.relief * (1 - shape)
    cloth.mark(around(cloth.frame, np.maximum(shape, ends)))


def _knot(cloth: Part, flaw: Flaw) -> None:
    radius = flaw.size(4, 10)
    x, y = _place(cloth.frame, flaw, radius)
    hill = bump(cloth.frame, x, y, radius)
    fuzz = np.clip(np.float32(0.75) + np.float32(0.3) * cloth.frame.noise(flaw, 2, 2), 0, 1)
    cloth.paint(np.clip(hill * 2, 0, 1) * fuzz, (150, 156, 168), 0.75)
    cloth.relief = cloth.relief * (1 - np.clip(hill * 2, 0, 1)) + np.float32(0.38 * radius) * hill
    cloth.mark((hill > 0).astype(np.float32))


def _oil(cloth: Part, flaw: Flaw) -> None:
    radius = flaw.size(5, 36)
    x, y = _place(cloth.frame, flaw, min(radius, 24))
    shape, wide = cloth.frame.pen(), cloth.frame.pen()
    shape.polygon(blob(flaw, x, y, radius))
    wide.circle(x, y, 1.5 * radius + 8)
    wide = wide.layer()
    film = shape.layer(1.5 + radius / 7) * wide
    cloth.colour = cloth.colour * (1 - np.float32(flaw.uniform(0.22, 0.42)) * film)[..., None]
    cloth.mark(np.where(film > 0.04, wide, 0).astype(np.float32))


_DEFECTS = {"hole": _hole, "knot": _knot, "oil": _oil}
