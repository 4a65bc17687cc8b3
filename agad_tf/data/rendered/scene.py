"""What every rendered photograph goes through: a part drawn in layers, placed, lit, focused and exposed.

Lengths are in design pixels: those of a photograph of 640 x 480. Pixel arrays see only sums, products,
quotients and square roots, which are exact, so that another processor gives the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Points = Sequence[tuple[float, float]]

DESIGN_WIDTH, DESIGN_HEIGHT = 640, 480


@dataclass(frozen=True)
class Frame:
    """The grid that a part is drawn on, the part's centre at (0, 0), x to the right and y down.

    Attributes:
        height, width: in pixels.
        scale: pixels a design pixel.
    """

    height: int
    width: int
    scale: float

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """x float32 (1, width) and y float32 (height, 1) of the pixel centres, in design pixels."""
        x = (np.arange(self.width, dtype=np.float64) + 0.5 - self.width / 2) / self.scale
        y = (np.arange(self.height, dtype=np.float64) + 0.5 - self.height / 2) / self.scale
        return x.astype(np.float32)[None, :], y.astype(np.float32)[:, None]

    def pen(self) -> Pen:
        """A fresh layer to draw on."""
        return Pen(self)

    def noise(self, rng: np.random.Generator, cell_x: float, cell_y: float) -> np.ndarray:
        """Smooth noise of deviation near 1, float32 (height, width), cells of so many design pixels."""
        columns = max(2, round(self.width / max(1.0, cell_x * self.scale)))
        rows = max(2, round(self.height / max(1.0, cell_y * self.scale)))
        coarse = rng.standard_normal((rows, columns)).astype(np.float32)
        return np.asarray(Image.fromarray(coarse).resize((self.width, self.height), Image.BICUBIC))


class Pen:
    """Draws antialiased shapes in design pixels into one layer."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._fine = int(np.clip(math.ceil(2.5 / frame.scale), 2, 8))
        self._image = Image.new("L", (frame.width * self._fine, frame.height * self._fine), 0)
        self._draw = ImageDraw.Draw(self._image)

    def _at(self, points: Points) -> list[tuple[float, float]]:
        zoom = self._frame.scale * self._fine
        left, top = self._image.width / 2, self._image.height / 2
        return [(left + x * zoom - 0.5, top + y * zoom - 0.5) for x, y in points]

    def polygon(self, points: Points, fill: int = 255) -> None:
        self._draw.polygon(self._at(points), fill=fill)

    def circle(self, x: float, y: float, radius: float, fill: int = 255) -> None:
        self._draw.ellipse(
            [c for p in self._at([(x - radius, y - radius), (x + radius, y + radius)]) for c in p], fill=fill
        )

    def line(self, points: Points, width: float, fill: int = 255) -> None:
        pixels = max(1, round(width * self._frame.scale * self._fine))
        self._draw.line(self._at(points), fill=fill, width=pixels, joint="curve")

    def layer(self, blur: float = 0.0) -> np.ndarray:
        """What was drawn, float32 (height, width) in [0, 1], blurred by so many design pixels."""
        image = self._image.reduce(self._fine)
        if blur:
            image = image.filter(ImageFilter.GaussianBlur(blur * self._frame.scale))
        return np.asarray(image).astype(np.float32) * np.float32(1 / 255)


@dataclass
class Part:
    """One physical part: what the camera would see of it straight from above, in flat light.

    Attributes:
        frame: its grid.
        cover: float32 (height, width), 1 where there is material.
        colour: float32 (height, width, 3), 0 to 255.
        relief: float32 (height, width), height of the surface in design pixels; slopes catch the light.
        defect: float32 (height, width), above 0 where a defect has changed anything; None for a good part.
        turned: share of the light that a turned surface throws back as two opposite fans, 0 for none.
    """

    frame: Frame
    cover: np.ndarray
    colour: np.ndarray
    relief: np.ndarray
    defect: np.ndarray | None = None
    turned: float = 0.0

    def paint(self, alpha: np.ndarray, colour: Sequence[float], strength: float = 1.0) -> None:
        """Lays a colour over the part, as thick as `alpha` says."""
        rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
        if not rows.size:
            return
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        share = (alpha[box] * np.float32(strength))[..., None]
        self.colour[box] = self.colour[box] * (1 - share) + np.asarray(colour, np.float32) * share

    def mark(self, layer: np.ndarray) -> None:
        """Adds to what counts as defect."""
        self.defect = layer if self.defect is None else np.maximum(self.defect, layer)


@dataclass(frozen=True)
class Pose:
    """Where the part lies in the picture: turned by `angle` (radians), then moved, in design pixels."""

    angle: float
    right: float
    down: float
    zoom: float = 1.0


def photograph(
    part: Part, pose: Pose, background: np.ndarray | None, size: Frame, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Takes one photograph of a part.

    Args:
        part: the part.
        pose: where it lies.
        background: float32 (height, width, 3), 0 to 255, what it lies on; None where the part fills the view.
        size: grid of the picture.
        rng: light, focus and noise are drawn from it.

    Returns:
        The picture, uint8 (height, width, 3), and the defect's mask, bool (height, width).
    """
    warp = _Warp(part.frame, size, pose)
    # From the upper left, higher or lower, as lamps over a line do over a day.
    direction = math.radians(225 + rng.uniform(-25, 25))
    light_x, light_y = math.cos(direction), math.sin(direction)
    spot_x, spot_y = rng.uniform(-170, 170), rng.uniform(-140, 140)
    exposure, glare = rng.uniform(0.9, 1.1), rng.uniform(0.8, 1.2)
    tone = 1 + 0.009 * rng.standard_normal(3)
    focus = rng.uniform(0.3, 1.4) * size.scale

    colour, cover = warp.colour(part.colour, part.cover)
    slope = _slope(warp.values(part.relief), light_x, light_y, size.scale)
    shine = 1 + np.clip(slope * np.float32(0.55 * glare), -0.62, 0.75)
    if part.turned:
        shine = shine * _fans(size, pose, light_x, light_y, part.turned)
    picture = colour * shine[..., None]
    if background is not None:
        shadow = _shadow(cover, light_x, light_y, size.scale)
        ground = background * (1 - np.float32(0.55) * shadow[..., None])
        picture = ground + (picture - ground) * cover[..., None]
    x, y = size.grid()
    fall = ((x - np.float32(spot_x)) / DESIGN_WIDTH) ** 2 + ((y - np.float32(spot_y)) / DESIGN_HEIGHT) ** 2
    lamp = np.float32(exposure) * (np.float32(1.08) - np.float32(0.3) * fall)
    picture = picture * (lamp[..., None] * tone.astype(np.float32))
    sharp = Image.fromarray(_bytes(picture))
    blurred = np.asarray(sharp.filter(ImageFilter.BoxBlur(focus))).astype(np.float32)
    grain = rng.random(blurred.shape, np.float32) - rng.random(blurred.shape, np.float32)
    picture = _bytes(blurred + np.float32(5.5) * grain)
    if part.defect is None:
        return picture, np.zeros(picture.shape[:2], bool)
    return picture, warp.values(part.defect) > np.float32(0.02)


class _Warp:
    """From the grid of a part to that of a picture, bilinear."""

    def __init__(self, frame: Frame, size: Frame, pose: Pose) -> None:
        cos, sin = math.cos(pose.angle) / pose.zoom, math.sin(pose.angle) / pose.zoom
        x0 = size.width / 2 + pose.right * size.scale
        y0 = size.height / 2 + pose.down * size.scale
        self._size = (size.width, size.height)
        self._matrix = (
            cos, sin, frame.width / 2 - cos * x0 - sin * y0,
            -sin, cos, frame.height / 2 + sin * x0 - cos * y0,
        )  # fmt: skip

    def values(self, layer: np.ndarray) -> np.ndarray:
        return np.asarray(self._moved(Image.fromarray(layer)))

    def colour(self, colour: np.ndarray, cover: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        layers = np.concatenate([colour, 255 * cover[..., None]], axis=-1)
        moved = np.asarray(self._moved(Image.fromarray(_bytes(layers)))).astype(np.float32)
        return moved[..., :3], moved[..., 3] * np.float32(1 / 255)

    def _moved(self, image: Image.Image) -> Image.Image:
        return image.transform(self._size, Image.AFFINE, self._matrix, Image.BILINEAR)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture + np.float32(0.5), 0, 255).astype(np.uint8)


def _slope(relief: np.ndarray, light_x: float, light_y: float, scale: float) -> np.ndarray:
    """Rise of the surface towards the light turned away from it: positive faces the light."""
    padded = np.pad(relief, 1, mode="edge")
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    half = np.float32(0.5 * scale)
    return (across * np.float32(-light_x) + down * np.float32(-light_y)) * half


def _fans(size: Frame, pose: Pose, light_x: float, light_y: float, share: float) -> np.ndarray:
    x, y = size.grid()
    x, y = x - np.float32(pose.right), y - np.float32(pose.down)
    radius = np.sqrt(x * x + y * y) + np.float32(1)
    along = (x * np.float32(light_x) + y * np.float32(light_y)) / radius
    square = along * along
    return np.float32(1 - 0.45 * share) + np.float32(share) * square * square


def _shadow(cover: np.ndarray, light_x: float, light_y: float, scale: float) -> np.ndarray:
    small = Image.fromarray(_bytes(cover * 255)).reduce(4).filter(ImageFilter.GaussianBlur(7 / 4 * scale))
    soft = small.resize(cover.shape[::-1], Image.BILINEAR)
    right, down = round(-9 * light_x * scale), round(-9 * light_y * scale)
    return np.roll(np.asarray(soft), (down, right), (0, 1)).astype(np.float32) * np.float32(1 / 255)


_SEGMENTS = {
    "0": "abcdef", "1": "bc", "2": "abged", "3": "abgcd", "4": "fgbc",
    "5": "afgcd", "6": "afgedc", "7": "abc", "8": "abcdefg", "9": "abcdfg",
}  # fmt: skip
_STROKES = {
    "a": ((0, 0), (1, 0)), "b": ((1, 0), (1, 1)), "c": ((1, 1), (1, 2)), "d": ((0, 2), (1, 2)),
    "e": ((0, 1), (0, 2)), "f": ((0, 0), (0, 1)), "g": ((0, 1), (1, 1)),
}  # fmt: skip


def stamp(pen: Pen, digits: str, x: float, y: float, height: float, width: float = 1.8) -> None:
    """Draws a number as a stamping machine would, its upper left corner at (x, y)."""
    half = height / 2
    for index, digit in enumerate(digits):
        left = x + index * height * 0.85
        for segment in _SEGMENTS[digit]:
            pen.line([(left + a * half, y + b * half) for a, b in _STROKES[segment]], width)


def blob(rng: np.random.Generator, x: float, y: float, radius: float, corners: int = 16) -> Points:
    """An uneven, round outline."""
    reach = radius * (1 + 0.22 * rng.standard_normal(corners).clip(-2, 2))
    turns = 2 * math.pi * np.arange(corners) / corners
    return [
        (x + r * math.cos(t), y + r * math.sin(t))
        for r, t in zip(reach.tolist(), turns.tolist(), strict=True)
    ]


def bump(frame: Frame, x: float, y: float, radius: float) -> np.ndarray:
    """A smooth hill of height 1 that ends at `radius`."""
    across, down = frame.grid()
    square = (across - np.float32(x)) ** 2 + (down - np.float32(y)) ** 2
    inside = np.clip(1 - square * np.float32(1 / radius**2), 0, None)
    return inside * inside


def around(frame: Frame, layer: np.ndarray, reach: float = 1.5) -> np.ndarray:
    """1 within about so many design pixels of what a layer covers, else 0."""
    image = Image.fromarray(_bytes(np.clip(layer, 0, 1) * 255))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(reach * frame.scale)))
    return (soft > 12).astype(np.float32)


class Flaw(np.random.Generator):
    """Draws what is random about a defect.

    Args:
        seed: numbers that it follows from.
        scale: factor of sizes.
    """

    def __init__(self, seed: Sequence[int], scale: float = 1.0) -> None:
        super().__init__(np.random.PCG64(seed))
        self._scale = scale

    def size(self, low: float, high: float) -> float:
        """From `low` to `high` times the scale, small ones as often as large ones."""
        return self._scale * low * (high / low) ** self.random()
