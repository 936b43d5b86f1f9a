"""Draws chest radiographs, to test the pipeline from source folder to device without patient data.

A model trained on them knows nothing about medicine. Only the opacities depend on the class.
Exposure, size, aspect ratio, JPEG quality, side markers and device lines do not, and the mean
brightness of the lungs is largely evened out: a linear model of the pixels stays near chance while
a small CNN does well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_AREA = 48_000  # pixels drawn before the image is scaled to its size: about 219 x 219
_MARKERS = {
    "L": ((0, 0), (0, 2), (1.1, 2)),
    "R": ((0, 2), (0, 0), (1, 0), (1, 1), (0, 1), (1, 2)),
}  # strokes

Points = list[tuple[float, float]]


class Anatomy(NamedTuple):
    """A patient's chest.

    Lengths are in half body widths: x to the right of the image, y down, 0 at mid-chest.
    """

    chest: float  # half width of the rib cage
    apex: float  # y of the lungs' upper end
    base: float  # y of the diaphragm's domes
    heart: float  # radius
    mediastinum: float  # half width
    ribs: float  # distance between ribs
    rib_phase: float
    rib_slope: float
    bone: float  # brightness of the bones, 1 is usual
    breast: float  # brightness of the breast shadows, 0 for none
    shoulder: float  # y of the shoulders at the body's edge


class _View(NamedTuple):
    """The chest's position in the image: anatomy coordinates of each pixel, and the inverse."""

    x: np.ndarray  # float32 (H, W)
    y: np.ndarray
    to_pixels: Callable[[np.ndarray], Points]  # from (N, 2)


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Returns a random patient."""
    u = rng.uniform
    return Anatomy(
        chest=u(0.68, 0.8), apex=u(-0.78, -0.66), base=u(0.34, 0.5), heart=u(0.24, 0.34),
        mediastinum=u(0.1, 0.15), ribs=u(0.15, 0.19), rib_phase=u(0, 1), rib_slope=u(0.25, 0.5),
        bone=u(0.6, 1.3), breast=u(0.04, 0.12) * (u() < 0.35), shoulder=u(-0.72, -0.55),
    )  # fmt: skip


def draw(finding: str, rng: np.random.Generator, *, anatomy: Anatomy | None = None) -> np.ndarray:
    """Returns a drawn frontal radiograph.

    Args:
      finding: "none"; "bacteria", one or two focal consolidations; or "virus", diffuse opacity of
        both lungs. Opacities range from hardly visible to obvious.
      rng: Source of all randomness except the anatomy.
      anatomy: The patient; drawn from `rng` by default.

    Returns:
      uint8 (H, W), 0 to 255, MONOCHROME2: bone is bright. H and W are 300 to 700 pixels.
    """
    chest = anatomy or draw_anatomy(rng)
    width = int(rng.integers(420, 701))
    height = int(np.clip(width / rng.uniform(0.95, 1.5), 300, 700))
    view = _place(rng, height, width)
    lungs = _lungs(chest, view)

    content = _vessels(rng, view) + _opacity(finding, rng, view, lungs)
    # Removes most of what the opacities add to the mean of the lungs: a linear model would find it.
    content += rng.normal(0, 0.05) - 0.6 * (content * lungs).sum() / lungs.sum()
    film = _body(chest, view) + lungs * (content - rng.uniform(0.34, 0.44))
    film += _bones(chest, view) + _soft_tissue(chest, rng, view)
    film = _expose(film, rng) + _lines(rng, view)
    image = Image.fromarray(np.clip(film * 255, 0, 255).astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _place(rng: np.random.Generator, height: int, width: int) -> _View:
    """Returns a random position, scale and rotation.

    A wide image shows a wider field and a slightly wider chest.
    """
    aspect = width / height
    rows, cols = round((_AREA / aspect) ** 0.5), round((_AREA * aspect) ** 0.5)
    scale = rng.uniform(0.86, 1.08)
    half_x, half_y = scale * (aspect / 1.2) ** 0.35, 0.9 * scale * (aspect / 1.2) ** -0.35
    shift_x, shift_y, angle = rng.uniform(-0.08, 0.08), rng.uniform(-0.1, 0.06), rng.normal(0, 0.04)
    cos, sin = np.cos(angle), np.sin(angle)
    u = np.linspace(-half_x, half_x, cols, dtype=np.float32)[np.newaxis]
    v = np.linspace(-half_y, half_y, rows, dtype=np.float32)[:, np.newaxis]

    def to_pixels(points: np.ndarray) -> Points:
        xy = points - (shift_x, shift_y)
        across, down = xy @ (cos, sin), xy @ (-sin, cos)
        columns = (across / half_x + 1) * (cols - 1) / 2
        lines = (down / half_y + 1) * (rows - 1) / 2
        return list(zip(columns.tolist(), lines.tolist(), strict=True))

    x = np.float32(cos) * u - np.float32(sin) * v + np.float32(shift_x)
    y = np.float32(sin) * u + np.float32(cos) * v + np.float32(shift_y)
    return _View(x, y, to_pixels)


def _edge(distance: np.ndarray, softness: float) -> np.ndarray:
    """Returns 0 to 1 across an edge at `distance` 0; float32 (H, W)."""
    return np.clip(distance / np.float32(2 * softness) + np.float32(0.5), 0, 1)


def _bump(
    x: np.ndarray, y: np.ndarray, at: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    """Returns exp(-r^2), with r = 1 on the ellipse; float32 (H, W)."""
    return np.exp(-(((x - at[0]) / radii[0]) ** 2) - ((y - at[1]) / radii[1]) ** 2)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> np.ndarray:
    """Returns smooth noise, mean 0, deviation about 1, `cells` grains across; float32 (H, W)."""
    grains = rng.standard_normal((cells, cells), dtype=np.float32) * 1.3
    return np.asarray(
        Image.fromarray(grains).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    )


def _strokes(
    shape: tuple[int, ...], strokes: list[tuple[Points, float, float]], blur: float
) -> np.ndarray:
    """Draws lines on 0: (points in pixels, width in pixels, brightness 0 to 1); float32 (H, W)."""
    image = Image.new("L", (shape[1], shape[0]))
    pen = ImageDraw.Draw(image)
    for points, width, value in strokes:
        pen.line(points, fill=round(255 * value), width=max(1, round(width)), joint="curve")
    return np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255


def _lungs(chest: Anatomy, view: _View) -> np.ndarray:
    """Returns 1 inside the lung fields, 0 outside; float32 (H, W)."""
    x, y = view.x, view.y
    side = np.abs(x)
    middle = 0.12  # the lungs are widest below mid-chest
    fall = np.where(y < middle, (y - middle) / (chest.apex - middle), (y - middle) / 1.1)
    outer = chest.chest * np.sqrt(np.clip(1 - np.abs(fall) ** 2.3, 0, 1))
    inner = chest.mediastinum + 0.05 * y**2
    dome = chest.base + 0.04 * (x > 0) + 0.9 * (side - 0.36) ** 2
    lungs = _edge(outer - side, 0.025) * _edge(side - inner, 0.03) * _edge(dome - y, 0.025)
    # The heart is on the right of the image, the left of the patient.
    tilted = y - 0.35 * x - chest.base + 0.18
    heart = ((x - 0.1) / (chest.heart * 1.1)) ** 2 + (tilted / (1.1 * chest.heart)) ** 2
    knob = ((x - chest.mediastinum) / 0.08) ** 2 + ((y + 0.28) / 0.1) ** 2
    return lungs * _edge(heart - 1, 0.15) * _edge(knob - 1, 0.3)


def _body(chest: Anatomy, view: _View) -> np.ndarray:
    """Draws soft tissue, mediastinum and abdomen without the lungs; float32 (H, W)."""
    x, y = view.x, view.y
    side = np.abs(x)
    slope = chest.shoulder - 0.35 * np.clip(0.8 - side, 0, 1) - 0.5 * np.clip(0.3 - side, 0, 1)
    trunk = _edge(y - slope, 0.03) * _edge(0.93 + 0.05 * y**2 - side, 0.03)
    neck = _edge(0.22 - side, 0.04) * _edge(0 - y, 0.1)
    film = 0.62 * np.maximum(trunk, neck)
    film += 0.12 * _bump(x, y, (0, 0.3), (0.14, 2)) + 0.07 * _edge(y - chest.base - 0.05, 0.12)
    film += 0.08 * _bump(x, y, (0.1, chest.base - 0.2), (0.3, 0.3))
    return film - 0.12 * _bump(x, y, (0, -0.75), (0.05, 0.45))  # the windpipe


def _bones(chest: Anatomy, view: _View) -> np.ndarray:
    """Draws ribs, clavicles and spine; float32 (H, W)."""
    x, y = view.x, view.y
    side = np.abs(x)
    cage = _edge(chest.chest + 0.05 - side, 0.04) * _edge(y - chest.apex, 0.05)
    cage *= _edge(0.75 - y, 0.2)
    back = (y + chest.rib_slope * (side - 0.9 * side**2) * -1.6) / chest.ribs + chest.rib_phase
    front = (y - chest.rib_slope * 1.5 * side) / (1.15 * chest.ribs) + 2 * chest.rib_phase
    turn = np.float32(2 * np.pi)
    ribs = 0.055 * np.clip(np.cos(turn * back) + 0.1, 0, 1) * _edge(side - 0.06, 0.05)
    ribs += 0.025 * np.clip(np.cos(turn * front), 0, 1) * _edge(side - 0.3, 0.1)
    clavicle = chest.apex + 0.13 - 0.1 * side - 0.12 * np.sin(4 * side)
    line = _edge(0.03 - np.abs(y - clavicle), 0.012)
    bones = ribs * cage + 0.1 * line * _edge(0.72 - side, 0.03) * _edge(side - 0.05, 0.02)
    bones += 0.03 * np.cos(turn * y / (0.8 * chest.ribs)) * _edge(0.09 - side, 0.02)
    return chest.bone * bones


def _soft_tissue(chest: Anatomy, rng: np.random.Generator, view: _View) -> np.ndarray:
    """Draws uneven tissue, the heel effect and breast shadows; float32 (H, W)."""
    x, y = view.x, view.y
    film = 0.035 * _noise(rng, x.shape, 5) + rng.normal(0, 0.04) * x + rng.normal(0, 0.04) * y
    if chest.breast:
        for side in (-0.42, 0.42):
            radius = np.hypot(x - side, (y - 0.18) * 1.1)
            film += chest.breast * _edge(0.3 - radius, 0.02) * _edge(y + 0.1, 0.2)
    return film


def _vessels(rng: np.random.Generator, view: _View) -> np.ndarray:
    """Draws vessels that branch from the hila; float32 (H, W)."""
    side = np.repeat([-1.0, 1.0], 9)
    angle = np.tile(np.linspace(-1.3, 1.2, 9), 2) + rng.normal(0, 0.12, 18)
    width = rng.uniform(2.5, 4.5, 18)
    starts = np.stack([side * 0.17, 0.02 + 0.02 * side], axis=1)
    strokes = []
    for step in range(4):
        angle = angle + rng.normal(0, 0.25, 18)
        fork = angle + rng.choice((-0.6, 0.6), 18)
        ends = starts + 0.11 * np.stack([side * np.cos(angle), np.sin(angle)], axis=1)
        tips = starts + 0.12 * np.stack([side * np.cos(fork), np.sin(fork)], axis=1)
        start, end, tip = view.to_pixels(starts), view.to_pixels(ends), view.to_pixels(tips)
        for i in range(18):
            strokes.append(([start[i], end[i]], width[i] * 0.7**step, 0.9 * 0.85**step))
            if step:
                strokes.append(([start[i], tip[i]], width[i] * 0.5**step, 0.6 * 0.85**step))
        starts = ends
    film = rng.uniform(0.07, 0.15) * _strokes(view.x.shape, strokes, 1.2)
    for at in (-0.17, 0.17):
        film += rng.uniform(0.03, 0.09) * _bump(view.x, view.y, (at, 0.03), (0.08, 0.13))
    return film


def _opacity(finding: str, rng: np.random.Generator, view: _View, lungs: np.ndarray) -> np.ndarray:
    """Draws the opacities of a finding, zeros for "none"; float32 (H, W)."""
    x, y = view.x, view.y
    if finding == "bacteria":
        film = np.zeros_like(x)
        rows, cols = np.nonzero(lungs > 0.8)
        for _ in range(rng.integers(1, 3)):
            spot = rng.integers(len(rows))
            at = (float(x[rows[spot], cols[spot]]), float(y[rows[spot], cols[spot]]))
            radii = (rng.uniform(0.17, 0.34), rng.uniform(0.17, 0.34))
            shape = np.sqrt(((x - at[0]) / radii[0]) ** 2 + ((y - at[1]) / radii[1]) ** 2)
            patch = _edge(1 - shape + 0.25 * _noise(rng, x.shape, 9), 0.35)
            film = np.maximum(film, rng.uniform(0.18, 0.46) * patch)
        return film * (1 + 0.15 * _noise(rng, x.shape, 24))
    if finding == "virus":
        zone = 0.6 + 0.5 * _edge(y - rng.uniform(-0.3, 0.3), 0.4)
        patchy = np.clip(_noise(rng, x.shape, 12), 0, 2)
        net = _noise(rng, x.shape, 40) * _edge(_noise(rng, x.shape, 7) + 0.4, 0.5)
        return rng.uniform(0.6, 1.6) * zone * (0.1 * patchy + 0.04 * net)
    return np.zeros_like(x)


def _expose(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies exposure and film noise; float32 (H, W), about 0 to 1."""
    level = np.clip(film + 0.04, 0.0, 1.2)
    level = rng.uniform(0.85, 1.2) * level ** rng.uniform(0.8, 1.3) + rng.uniform(-0.03, 0.08)
    level = level + _noise(rng, film.shape, 70) * rng.uniform(0.004, 0.014)
    grain = rng.standard_normal(film.shape, dtype=np.float32)
    return level + grain * rng.uniform(0.006, 0.02)


def _lines(rng: np.random.Generator, view: _View) -> np.ndarray:
    """Draws a side marker and device lines on some images of all findings; float32 (H, W)."""
    strokes: list[tuple[Points, float, float]] = []
    if rng.random() < 0.6:
        left = rng.random() < 0.5  # the patient's left is on the image's right
        letter = np.array(_MARKERS["L" if left else "R"])
        corner = (0.78 if left else -0.84, rng.uniform(-0.75, -0.6))
        strokes.append((view.to_pixels(corner + rng.uniform(0.03, 0.05) * letter), 2, 0.9))
    t = np.linspace(-1, 1.5, 40)[:, np.newaxis]
    for _ in range(rng.integers(1, 3) if rng.random() < 0.3 else 0):
        path = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.6, 0.4)])
        for power, spread in ((1, 0.4), (2, 0.2), (3, 0.1)):
            path = path + rng.normal(0, spread, 2) * t**power
        strokes.append((view.to_pixels(path), rng.uniform(1, 2.5), rng.uniform(0.15, 0.45)))
    return _strokes(view.x.shape, strokes, 0.6) if strokes else np.zeros_like(view.x)
