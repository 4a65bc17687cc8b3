"""A brushed steel plate with holes and a stamped number, on a wooden bench."""

from __future__ import annotations

import math

import numpy as np

from agad_tf.data.rendered.scene import Flaw, Frame, Part, Pose, around, blob, bump, stamp

KINDS = ("burr", "dent", "scratch", "stain")
_HALF_WIDTH, _HALF_HEIGHT, _CORNER = 226, 166, 34
_HOLES = ((-178, -118), (178, -118), (-178, 118), (178, 118))
_HOLE, _BORE = 17, 58
MARGIN = 1.0
"""Grid that it is drawn on, in pictures."""


def part(frame: Frame, number: int, kind: str | None, rng: np.random.Generator, flaw: Flaw):
    """Draws one plate; `rng` makes the plate, `flaw` its defect."""
    body = frame.pen()
    _rounded(body, _HALF_WIDTH, _HALF_HEIGHT, _CORNER)
    holes = [(x + rng.uniform(-0.8, 0.8), y + rng.uniform(-0.8, 0.8)) for x, y in _HOLES]
    for x, y in holes:
        body.circle(x, y, _HOLE, 0)
    body.circle(0, 0, _BORE, 0)
    burr = _burr(frame, holes, flaw) if kind == "burr" else None
    cover, edge = body.layer(), body.layer(1.3)
    if burr is not None:
        metal, burr_mask = burr
        metal = metal * burr_mask
        cover, edge = np.maximum(cover, metal), np.maximum(edge, metal)
    rings = frame.pen()
    for x, y in holes:
        rings.circle(x, y, _HOLE + 7)
        rings.circle(x, y, _HOLE + 2, 0)
    rings.circle(0, 0, _BORE + 11)
    rings.circle(0, 0, _BORE + 5, 0)
    rings = rings.layer(0.8) * cover
    digits = frame.pen()
    stamp(digits, f"{number % 10000:04d}", -40, -128, 24, 2.4)
    digits = digits.layer(0.5)
    # Brush strokes run along x: long in x, fine in y; a coarser cloudiness over them.
    brushed = (
        3.6 * frame.noise(rng, 150, 1.2) + 2.6 * frame.noise(rng, 40, 1.0) + 2.5 * frame.noise(rng, 90, 70)
    )
    grey = np.float32(rng.uniform(160, 172)) + brushed.astype(np.float32)
    colour = grey[..., None] * np.array([0.985, 1.0, 1.03], np.float32)
    plate = Part(frame, cover, colour, 2.6 * edge - 1.3 * rings - 1.1 * digits)
    plate.paint(digits, (96, 98, 104), 0.55)
    plate.paint(rings, (120, 122, 126), 0.3)
    if burr is not None:
        plate.paint(metal, (196, 198, 202), 0.5)
        plate.mark(burr_mask)
    elif kind is not None:
        _DEFECTS[kind](plate, flaw)
    return plate


def pose(rng: np.random.Generator) -> Pose:
    """Fed by a fixture: nearly aligned."""
    return Pose(
        math.radians(rng.normal(0, 1.2)),
        rng.normal(0, 5),
        rng.normal(0, 5),
        1 + 0.008 * rng.standard_normal(),
    )


def background(frame: Frame, rng: np.random.Generator) -> np.ndarray:
    """Planks of a bench."""
    _, y = frame.grid()
    wave = y * np.float32(0.16) + np.float32(2.4) * frame.noise(rng, 160, 30)
    grain = np.abs(wave - np.floor(wave) - np.float32(0.5)) * 34 + 4 * frame.noise(rng, 60, 1.4)
    tone = grain + 5 * frame.noise(rng, 220, 90)
    return np.array([126, 92, 60], np.float32) + tone[..., None] * np.array([1, 0.82, 0.6], np.float32)


def _rounded(pen, half_width: float, half_height: float, corner: float) -> None:
    for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        pen.circle(x * (half_width - corner), y * (half_height - corner), corner)
    for w, h in ((half_width - corner, half_height), (half_width, half_height - corner)):
        pen.polygon([(-w, -h), (w, -h), (w, h), (-w, h)])


def _spot(flaw: Flaw, margin: float) -> tuple[float, float]:
    """A place on the metal, clear of the holes and of the number."""
    while True:
        x = flaw.uniform(margin - _HALF_WIDTH, _HALF_WIDTH - margin)
        y = flaw.uniform(margin - _HALF_HEIGHT, _HALF_HEIGHT - margin)
        clear = all(math.hypot(x - a, y - b) > _HOLE + 10 + margin for a, b in _HOLES)
        in_number = -50 - margin < x < 60 + margin and -136 - margin < y < -96 + margin
        if clear and not in_number and math.hypot(x, y) > _BORE + 13 + margin:
            return x, y


def _burr(frame: Frame, holes, flaw: Flaw) -> tuple[np.ndarray, np.ndarray]:
    """Metal left in one of the holes: (cover, mask)."""
    places = [*((x, y, _HOLE) for x, y in holes), (0.0, 0.0, _BORE)]
    x, y, radius = places[int(flaw.integers(len(places)))]
    size, turn = flaw.size(4, 11), flaw.uniform(0, 2 * math.pi)
    centre, x, y = (x, y), x + radius * math.cos(turn), y + radius * math.sin(turn)
    hole, metal = frame.pen(), frame.pen()
    hole.circle(*centre, radius)
    metal.polygon(blob(flaw, x, y, size, 9))
    metal = metal.layer()
    return metal, around(frame, metal * hole.layer())


def _scratch(plate: Part, flaw: Flaw) -> None:
    x, y = _spot(flaw, 8)
    turn, length, bend = flaw.uniform(0, 2 * math.pi), flaw.size(24, 130), flaw.normal(0, 0.25)
    points = []
    for step in np.linspace(-0.5, 0.5, 14).tolist():
        angle = turn + bend * step
        points.append((x + length * step * math.cos(angle), y + length * step * math.sin(angle)))
    width = flaw.size(1.2, 2.6)
    groove, wide = plate.frame.pen(), plate.frame.pen()
    groove.line(points, width)
    wide.line(points, width + 5)
    wide = wide.layer() * plate.cover
    groove = groove.layer(0.35) * wide
    plate.relief = plate.relief - np.float32(flaw.uniform(0.8, 1.5)) * groove
    plate.paint(groove, (102, 102, 108) if flaw.random() < 0.5 else (222, 224, 228), flaw.uniform(0.3, 0.6))
    plate.mark(wide)


def _stain(plate: Part, flaw: Flaw) -> None:
    radius = flaw.size(4, 30)
    x, y = _spot(flaw, min(radius, 22))
    shape, wide = plate.frame.pen(), plate.frame.pen()
    shape.polygon(blob(flaw, x, y, radius))
    wide.circle(x, y, 1.5 * radius + 6)
    wide = wide.layer() * plate.cover
    film = shape.layer(1 + radius / 9) * wide
    film = film * (np.float32(0.8) + np.float32(0.12) * plate.frame.noise(flaw, 9, 9))
    colour = ((104, 74, 42), (70, 66, 60), (128, 104, 66))[int(flaw.integers(3))]
    plate.paint(np.clip(film, 0, 1), colour, flaw.uniform(0.25, 0.5))
    plate.mark(np.where(film > 0.04, wide, 0).astype(np.float32))


def _dent(plate: Part, flaw: Flaw) -> None:
    radius = flaw.size(5, 20)
    x, y = _spot(flaw, radius)
    hill = bump(plate.frame, x, y, radius)
    rim = bump(plate.frame, x, y, 1.35 * radius)
    depth = np.float32(radius * flaw.uniform(0.13, 0.24))
    plate.relief = plate.relief - depth * (hill - np.float32(0.3) * rim)
    plate.mark(np.where(rim > 0, plate.cover, 0).astype(np.float32))


_DEFECTS = {"scratch": _scratch, "stain": _stain, "dent": _dent}
