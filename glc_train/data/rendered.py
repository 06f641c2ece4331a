"""Rendered training pictures that need no files: textured dead leaves with natural statistics.

The dead-leaves model (Matheron; Lee, Mumford and Huang, "Occlusion models for natural images", 2001): opaque shapes
whose radii follow a power law with exponent 3 cover one another, which gives scale-invariant 1/f statistics and true
occlusion edges. Every leaf has a colour, a shading gradient and a texture of its own. Colours are drawn in the
decorrelated log space of Ruderman, Cronin and Chiao ("Statistics of cone responses to natural images", 1998), where
photographs vary much in lightness, less from yellow to blue and least from red to green.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from glc_train.data.source import sample_generator
from glc_train.media.pictures import Picture

Floats = npt.NDArray[np.float32]

_OVERSAMPLING = 2  # drawn twice as large and averaged: soft edges
_USES = 8  # samples from each picture
_AT_ONCE = 4  # consecutive samples rotate among this many pictures, so that a batch is not one scene
_VERTICES = 24  # divisible by 3, 4, 6 and 8: the corners of those polygons fall on vertices
_FIELD = 256  # side of the texture fields, which tile
# from lightness, yellow-blue, red-green to log R, G, B
_TO_LOG_RGB = np.array(
    [[1, 1, 1], [1 / np.sqrt(2), 1 / np.sqrt(2), -np.sqrt(2)], [np.sqrt(1.5), -np.sqrt(1.5), 0]], dtype=np.float32
)


class RenderedCrops:
    """Endless crops of rendered pictures (a `CropSource`); sample i depends on (seed, i) alone.

    Eight crops are cut from each picture of three times their side.
    """

    def __init__(self, crop_size: int, seed: int) -> None:
        """Crops of `crop_size` pixels a side. Raises: ValueError if it is not positive or `seed` is negative."""
        if crop_size < 1 or seed < 0:
            raise ValueError(f"crop_size must be positive and seed at least 0; got {crop_size} and {seed}.")
        self.crop_size = crop_size
        self.seed = seed
        self._pictures = PictureRounds(3 * crop_size, seed, "rendered picture")

    def sample(self, index: int) -> Tensor:
        """Return crop number `index` >= 0: uint8 (3, crop_size, crop_size)."""
        picture = self._pictures.picture(index)
        random = sample_generator(self.seed, "rendered crop", index)
        top, left = (int(v) for v in random.integers(0, 2 * self.crop_size + 1, size=2))
        crop = picture[top : top + self.crop_size, left : left + self.crop_size]
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))


class PictureRounds:
    """Rendered pictures for an endless stream of samples, each used several times; sample i depends on i alone."""

    def __init__(self, side: int, seed: int, purpose: str) -> None:
        """Pictures of `side` pixels a side, of the generators (seed, purpose, number)."""
        self._side, self._seed, self._purpose = side, seed, purpose
        self._recent: dict[int, Picture] = {}

    def picture(self, index: int, shift: int = 0) -> Picture:
        """Return the picture of sample `index`, or the one `shift` further in its round."""
        block, position = divmod(index, _USES * _AT_ONCE)
        return self._picture(block * _AT_ONCE + (position + shift) % _AT_ONCE)

    def _picture(self, number: int) -> Picture:
        if number not in self._recent:
            if len(self._recent) >= 2 * _AT_ONCE:
                del self._recent[next(iter(self._recent))]
            random = sample_generator(self._seed, self._purpose, number)
            self._recent[number] = draw_scene(self._side, self._side, random)
        return self._recent[number]


def render_picture(height: int, width: int, seed: int) -> Picture:
    """Render one picture: uint8 (height, width, 3), RGB, a pure function of the arguments.

    Raises: ValueError if a side is not positive or `seed` is negative.
    """
    if height < 1 or width < 1 or seed < 0:
        raise ValueError(f"height and width must be positive and seed at least 0; got {height}, {width}, {seed}.")
    return draw_scene(height, width, sample_generator(seed, "rendered picture", 0))


def draw_scene(height: int, width: int, random: np.random.Generator) -> Picture:
    """Render one picture: uint8 (height, width, 3), RGB."""
    large = (height * _OVERSAMPLING, width * _OVERSAMPLING)
    leaves, count = _draw_leaves(*large, random)
    image = Image.fromarray(_develop(_paint(leaves, count, random), random))
    if random.random() < 0.4:  # optics
        image = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0.5, 2.5))))
    pixels = np.asarray(image.reduce(_OVERSAMPLING))
    if random.random() < 0.3:  # sensor noise
        noise = random.standard_normal(pixels.shape, dtype=np.float32) * np.float32(random.uniform(0.5, 3.0))
        pixels = np.clip(pixels + noise + 0.5, 0, 255).astype(np.uint8)
    return pixels


def _draw_leaves(height: int, width: int, random: np.random.Generator) -> tuple[npt.NDArray[np.int32], int]:
    """Number of the visible leaf at each pixel, int32 (height, width), 0 for the background; and the count."""
    largest = 0.5 * max(height, width)
    smallest = min(largest / 2, 1.5 * _OVERSAMPLING * 2 ** random.uniform(0, 2.5))
    coverage = 2 ** random.uniform(0.0, 2.0)
    # With density r^-3 between the radii, a leaf has the mean area 2 pi smallest^2 log(largest / smallest).
    mean_area = 2 * np.pi * smallest**2 * np.log(largest / smallest)
    count = int(np.clip(coverage * height * width / mean_area, 8, 3000))
    # inverse of the cumulative distribution of r^-3, cut off at the largest radius
    u = random.random(count)
    radius = smallest / np.sqrt(1 - u * (1 - (smallest / largest) ** 2))
    corners = outlines(radius, random)
    corners += random.uniform(-0.1, 1.1, (count, 1, 2)) * (width, height)
    canvas = Image.new("I", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    for number, outline in enumerate(corners.reshape(count, -1).tolist(), start=1):
        draw.polygon(outline, fill=number)
    return np.asarray(canvas, dtype=np.int32), count


def outlines(radius: npt.NDArray[np.float64], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Corner points around the origin, (count, vertices, 2): ellipses, polygons and blobs, stretched and turned."""
    count = len(radius)
    angle = np.arange(_VERTICES) * (2 * np.pi / _VERTICES)
    sides = random.choice([3, 4, 4, 6, 8], size=(count, 1))
    polygon = np.cos(np.pi / sides) / np.cos(angle % (2 * np.pi / sides) - np.pi / sides)
    phase = random.uniform(0, 2 * np.pi, (2, count, 1))
    blob = 1 + 0.25 * np.cos(2 * angle + phase[0]) + 0.15 * np.cos(3 * angle + phase[1])
    kind = random.choice(3, size=(count, 1), p=[0.4, 0.3, 0.3])
    distance = np.where(kind == 0, 1.0, np.where(kind == 1, polygon, blob)) * radius[:, None]
    stretch = np.exp(np.abs(random.normal(0, 0.45, (count, 1))))  # keeps the area; long strips are rare
    x, y = distance * np.cos(angle) * stretch, distance * np.sin(angle) / stretch
    # Things stand and lie more often than they lean.
    turn = np.where(random.random((count, 1)) < 0.4, 0.0, random.uniform(0, 2 * np.pi, (count, 1)))
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=-1)


def _paint(leaves: npt.NDArray[np.int32], count: int, random: np.random.Generator) -> Floats:
    """Log reflected light, (height, width, 3)."""
    height, width = leaves.shape
    colour, tint = _palette(count + 1, random)
    y, x = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)
    bank = _texture_bank()
    offset = random.integers(0, _FIELD, (2, count + 1), dtype=np.int32)
    field = random.integers(0, len(bank), count + 1, dtype=np.int32) * (_FIELD * _FIELD)
    place = field[leaves] + ((y + offset[0][leaves]) % _FIELD) * _FIELD + (x + offset[1][leaves]) % _FIELD
    strength = (0.5 * random.random(count + 1) ** 2).astype(np.float32)
    shade = strength[leaves] * bank.reshape(-1)[place]
    # one light from one side, each leaf tilted its own way
    slope = (random.normal(0, 0.35, (2, count + 1)) + random.normal(0, 0.3, (2, 1))).astype(np.float32)
    shade += slope[0][leaves] * (y / np.float32(height) - np.float32(0.5))
    shade += slope[1][leaves] * (x / np.float32(width) - np.float32(0.5))
    _add_gratings(shade, leaves, count, random)
    return colour[leaves] + shade[:, :, None] * tint[leaves]


def _add_gratings(
    shade: Floats, leaves: npt.NDArray[np.int32], count: int, random: np.random.Generator, share: float = 0.06
) -> None:
    """Add stripes, smooth or sharp, to a few of the leaves, in place."""
    chosen = random.random(count + 1) < share
    period = _OVERSAMPLING * 2 ** random.uniform(1.5, 5, count + 1)
    direction = random.uniform(0, 2 * np.pi, count + 1)
    phase = random.uniform(0, 2 * np.pi, count + 1).astype(np.float32)
    height = random.uniform(0.05, 0.5, count + 1).astype(np.float32)
    sharpness = random.choice([1.0, 6.0], count + 1).astype(np.float32)
    rows, columns = np.nonzero(chosen[leaves])
    leaf = leaves[rows, columns]
    along_y = (2 * np.pi * np.sin(direction) / period).astype(np.float32)[leaf]
    along_x = (2 * np.pi * np.cos(direction) / period).astype(np.float32)[leaf]
    wave = np.sin(along_y * rows.astype(np.float32) + along_x * columns.astype(np.float32) + phase[leaf])
    shade[rows, columns] += height[leaf] * np.clip(wave * sharpness[leaf], -1, 1)


def _palette(count: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Log colours of the leaves and how their textures colour the light, both (count, 3)."""
    scene = random.normal((0.0, 0.14, 0.02), (0.0, 0.1, 0.02))  # the light's colour
    groups = random.normal(0, (1.1, 0.24, 0.06), (int(random.integers(3, 8)), 3))  # the materials of one scene
    opponent = scene + groups[random.integers(0, len(groups), count)] + random.normal(0, (0.6, 0.08, 0.03), (count, 3))
    vivid = random.random(count) < 0.04
    opponent[vivid, 1:] *= random.uniform(1.5, 4.0, (int(vivid.sum()), 1))
    opponent[:, 2] += 0.35 * opponent[:, 1]  # towards orange and sky blue; yellow-green and violet are rarer
    tint = 1 + random.normal(0, 0.08, (count, 3))
    return opponent.astype(np.float32) @ _TO_LOG_RGB, tint.astype(np.float32)


def _develop(light: Floats, random: np.random.Generator) -> Picture:
    """Expose log light and encode it with gamma 2.2 and a soft shoulder: uint8 (height, width, 3)."""
    exposure = np.log(0.17) + random.normal(0, 0.3) - float(light[::8, ::8].mean())
    linear = np.exp(light + np.float32(exposure))
    linear *= (1 + linear / 4) / (1 + linear)  # close to linear in the dark, reaches 1 at twice white
    np.clip(linear, 0, 1, out=linear)
    return (np.power(linear, np.float32(1 / 2.2)) * 255 + np.float32(0.5)).astype(np.uint8)


@lru_cache(maxsize=1)
def _texture_bank() -> Floats:
    """Tiling noise fields of zero mean and unit variance, (fields, 256, 256): 1/f^a, brushed and ridged."""
    random = np.random.default_rng(20)
    fy = np.fft.fftfreq(_FIELD).astype(np.float32)[:, None] * _FIELD
    fx = np.fft.rfftfreq(_FIELD).astype(np.float32) * _FIELD
    fields = []
    for exponent, stretch, ridged in [
        (0.5, (1, 1), False),
        (0.9, (1, 1), False),
        (1.2, (1, 1), False),
        (1.5, (1, 1), False),
        (1.9, (1, 1), False),
        (1.0, (6, 1), False),
        (1.0, (1, 6), False),
        (1.4, (1, 12), False),
        (1.2, (1, 1), True),
        (1.5, (1, 1), True),
        (1.4, (4, 1), True),
    ]:
        frequency = np.hypot(stretch[0] * fy, stretch[1] * fx)
        frequency[0, 0] = np.inf
        spectrum = np.fft.rfft2(random.standard_normal((_FIELD, _FIELD))) / frequency**exponent
        field = np.fft.irfft2(spectrum, s=(_FIELD, _FIELD))
        field = np.abs(field) if ridged else field
        fields.append((field - field.mean()) / field.std())
    return np.stack(fields).astype(np.float32)
