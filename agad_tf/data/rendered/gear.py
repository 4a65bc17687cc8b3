"""A turned gear that lies as it fell, at any angle, on a conveyor belt."""

from __future__ import annotations

import math

import numpy as np

from agad_tf.data.rendered.scene import Flaw, Frame, Part, Pose, around, blob, stamp

KINDS = ("broken_tooth", "crack", "rust", "swarf")
_TEETH, _TIP, _ROOT = 28, 196, 172
_RECESS, _HUB, _BORE = (70, 148), 70, 34
_HOLES, _HOLE, _CIRCLE = 5, 17, 110
MARGIN = 1.0
"""Grid that it is drawn on, in pictures."""


def part(frame: Frame, number: int, kind: str | None, rng: np.random.Generator, flaw: Flaw):
    """Draws one gear; `rng` makes the gear, `flaw` its defect."""
    outline = _outline()
    body = frame.pen()
    body.polygon(outline)
    for x, y in _holes():
        body.circle(x, y, _HOLE, 0)
    body.circle(0, 0, _BORE, 0)
    body.polygon([(-9, -_BORE - 11), (9, -_BORE - 11), (9, 0), (-9, 0)], 0)
    cover, edge = body.layer(), body.layer(1.4)
    lost = _lost_tooth(frame, cover, flaw) if kind == "broken_tooth" else None
    if lost is not None:
        gap, lost_mask = lost
        cover, edge = cover * (1 - gap), edge * (1 - gap)
    web = frame.pen()
    web.circle(0, 0, _RECESS[1])
    web.circle(0, 0, _RECESS[0], 0)
    web, web_slope = web.layer(), web.layer(2.2)
    digits = frame.pen()
    stamp(digits, f"{number % 10000:04d}", -28, 52, 13, 1.9)
    digits = digits.layer(0.45)
    # The tool's marks: rings, one tone a radius.
    x, y = frame.grid()
    radius = np.sqrt(x * x + y * y)
    rings = rng.standard_normal(2 * 640).astype(np.float32)
    tone = rings[np.minimum(radius * np.float32(1.6), 1279).astype(np.int32)] * np.float32(3.2)
    tone = tone + 2.2 * frame.noise(rng, 2.5, 2.5) + 3 * frame.noise(rng, 80, 80)
    grey = np.float32(rng.uniform(136, 148)) + tone - 24 * web
    colour = grey.astype(np.float32)[..., None] * np.array([1.02, 1.0, 0.965], np.float32)
    gear = Part(frame, cover, colour, 2.8 * edge - 2.2 * web_slope - 0.9 * digits, turned=0.55)
    gear.paint(digits, (58, 56, 54), 0.6)
    if lost is not None:
        gear.paint(lost_mask * edge, (92, 90, 88), 0.35)
        gear.mark(lost_mask)
    elif kind is not None:
        _DEFECTS[kind](gear, flaw)
    return gear


def pose(rng: np.random.Generator) -> Pose:
    """Lies as it fell."""
    return Pose(
        rng.uniform(0, 2 * math.pi), rng.normal(0, 7), rng.normal(0, 6), 1 + 0.008 * rng.standard_normal()
    )


def background(frame: Frame, rng: np.random.Generator) -> np.ndarray:
    """The rubber of a belt: dark, ribbed, dusty."""
    x, _ = frame.grid()
    rib = x * np.float32(1 / 9.0)
    rib = np.abs(rib - np.floor(rib) - np.float32(0.5)) * 14
    dust = np.clip(frame.noise(rng, 2.2, 2.2) - np.float32(2.3), 0, None) * 40
    tone = rib + 3 * frame.noise(rng, 3, 3) + 5 * frame.noise(rng, 130, 130) + dust
    return np.array([50, 56, 58], np.float32) + tone[..., None] * np.array([1, 1, 0.97], np.float32)


def _outline() -> list[tuple[float, float]]:
    points = []
    for tooth in range(_TEETH):
        for share, radius in ((-0.30, _ROOT), (-0.15, _TIP), (0.15, _TIP), (0.30, _ROOT)):
            turn = 2 * math.pi * (tooth + share) / _TEETH
            points.append((radius * math.cos(turn), radius * math.sin(turn)))
    return points


def _holes() -> list[tuple[float, float]]:
    turns = [2 * math.pi * (hole + 0.25) / _HOLES for hole in range(_HOLES)]
    return [(_CIRCLE * math.cos(turn), _CIRCLE * math.sin(turn)) for turn in turns]


def _lost_tooth(frame: Frame, whole: np.ndarray, flaw: Flaw) -> tuple[np.ndarray, np.ndarray]:
    """A tooth, or a corner of one, that has broken off: (what is gone, mask)."""
    turn = 2 * math.pi * (int(flaw.integers(_TEETH)) + flaw.uniform(-0.2, 0.2)) / _TEETH
    size = flaw.size(6, 17)
    distance = _TIP + 1.5
    x, y = distance * math.cos(turn), distance * math.sin(turn)
    gone = frame.pen()
    gone.polygon(blob(flaw, x, y, size, 9))
    gone = gone.layer()
    return gone, around(frame, gone * whole)


def _place(flaw: Flaw, margin: float) -> tuple[float, float]:
    """A place on the metal, clear of bore and holes."""
    while True:
        distance, turn = flaw.uniform(_BORE + 14 + margin, _ROOT - margin), flaw.uniform(0, 2 * math.pi)
        x, y = distance * math.cos(turn), distance * math.sin(turn)
        if all(math.hypot(x - a, y - b) > _HOLE + 3 + margin for a, b in _holes()):
            return x, y


def _crack(gear: Part, flaw: Flaw) -> None:
    """Starts at a hole or at the bore, and runs outwards in a zigzag."""
    starts = [(x, y, _HOLE) for x, y in _holes()] + [(0.0, 0.0, _BORE + 2.0)]
    x, y, radius = starts[int(flaw.integers(len(starts)))]
    turn = flaw.uniform(0, 2 * math.pi)
    x, y = x + radius * math.cos(turn), y + radius * math.sin(turn)
    steps = 7
    length = flaw.size(14, 46) / steps
    points = [(x, y)]
    for _ in range(steps):
        turn += flaw.normal(0, 0.38)
        x, y = x + length * math.cos(turn), y + length * math.sin(turn)
        points.append((x, y))
    width = flaw.size(1.2, 2.2)
    line, wide = gear.frame.pen(), gear.frame.pen()
    line.line(points, width)
    wide.line(points, width + 5)
    wide = wide.layer() * gear.cover
    line = line.layer(0.35) * wide
    gear.paint(line, (34, 32, 32), flaw.uniform(0.6, 0.85))
    gear.relief = gear.relief - np.float32(0.8) * line
    gear.mark(wide)


def _rust(gear: Part, flaw: Flaw) -> None:
    radius = flaw.size(4, 24)
    x, y = _place(flaw, min(radius, 12))
    shape, wide = gear.frame.pen(), gear.frame.pen()
    shape.polygon(blob(flaw, x, y, radius))
    wide.circle(x, y, 1.5 * radius + 5)
    wide = wide.layer() * gear.cover
    film = shape.layer(0.8 + radius / 12) * wide
    grain = np.clip(np.float32(0.6) + np.float32(0.45) * gear.frame.noise(flaw, 3, 3), 0, 1)
    gear.paint(film * grain, (122, 66, 30), flaw.uniform(0.45, 0.8))
    gear.mark(np.where(film > 0.04, wide, 0).astype(np.float32))


def _swarf(gear: Part, flaw: Flaw) -> None:
    """A curl of metal from the lathe that lies on the gear."""
    reach = flaw.size(5, 18)
    x, y = _place(flaw, 6)
    start, sweep = flaw.uniform(0, 2 * math.pi), flaw.uniform(2.2, 5.2)
    points = []
    for step in np.linspace(0, 1, 18).tolist():
        radius, turn = reach * (1 - 0.45 * step), start + sweep * step
        points.append((x + radius * math.cos(turn), y + radius * math.sin(turn)))
    curl, wide, shade = gear.frame.pen(), gear.frame.pen(), gear.frame.pen()
    curl.line(points, 2.2)
    shade.line([(a + 2.2, b + 2.2) for a, b in points], 2.4)
    wide.line([(a + 1, b + 1) for a, b in points], 10)
    wide = wide.layer()
    curl, shade = curl.layer(0.3), shade.layer(0.9) * wide
    gear.paint(shade, (40, 40, 42), 0.5)
    gear.paint(curl, (206, 204, 200), flaw.uniform(0.6, 0.85))
    gear.relief = gear.relief + np.float32(0.9) * curl
    gear.cover = np.maximum(gear.cover, curl)
    gear.mark(wide)


_DEFECTS = {"crack": _crack, "rust": _rust, "swarf": _swarf}
