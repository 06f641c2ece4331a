"""Rendered training clips that need no files: cut-outs of dead-leaves pictures move over one another.

Each clip is a background and a few opaque shapes, textured by rendered pictures (see `rendered`), each moving, turning
and growing on its own under a camera that pans, turns and zooms: true occlusion, and motion to fractions of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from glc_train.data.rendered import PictureRounds, draw_scene, outlines
from glc_train.data.source import sample_generator
from glc_train.media.pictures import Picture

Matrix3 = npt.NDArray[np.float64]

_PICTURE = 3  # sides of the frame that a background is wide
_MARGIN = 0.25  # of the frame's side, around what is shown: room for the camera's turning and zooming
_MASK_OVERSAMPLING = 4


class RenderedClips:
    """Endless rendered clips (a `CropSource` of clips); sample i depends on (seed, i) alone.

    Eight clips share the pictures that they are cut from; their shapes and motions are their own.
    """

    def __init__(self, crop_size: int, seed: int, frames: int) -> None:
        """Clips of `frames` frames of `crop_size` pixels a side.

        Raises: ValueError if one of the two is not positive or `seed` is negative.
        """
        if crop_size < 1 or seed < 0 or frames < 1:
            raise ValueError(
                f"crop_size and frames must be positive and seed at least 0; got {crop_size}, {frames} and {seed}."
            )
        self.crop_size = crop_size
        self.seed = seed
        self.frames = frames
        self._pictures = PictureRounds(_PICTURE * crop_size, seed, "rendered clip picture")

    def sample(self, index: int) -> Tensor:
        """Return clip number `index` >= 0: uint8 (frames, 3, crop_size, crop_size)."""
        background, material = self._pictures.picture(index), self._pictures.picture(index, shift=1)
        random = sample_generator(self.seed, "rendered clip", index)
        clip = _animate(background, material, self.crop_size, self.crop_size, self.frames, random)
        return torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2)))


def render_clip(height: int, width: int, frames: int, seed: int) -> npt.NDArray[np.uint8]:
    """Render one clip: uint8 (frames, height, width, 3), RGB, a pure function of the arguments.

    Raises: ValueError if a number is not positive or `seed` is negative.
    """
    if height < 1 or width < 1 or frames < 1 or seed < 0:
        raise ValueError(
            "height, width and frames must be positive and seed at least 0; "
            f"got {height}, {width}, {frames} and {seed}."
        )
    random = sample_generator(seed, "one rendered clip", 0)
    background, material = (draw_scene(_PICTURE * height, _PICTURE * width, random) for _ in range(2))
    return _animate(background, material, height, width, frames, random)


@dataclass(frozen=True)
class _Motion:
    """velocity: pixels a frame; gain: part by which it grows or shrinks over the clip; spin: radians a frame; growth:
    of the logarithm of the size a frame."""

    velocity: npt.NDArray[np.float64]
    gain: float
    spin: float
    growth: float

    def at(self, frame: int, frames: int) -> Matrix3:
        """Matrix (3, 3) that takes homogeneous places of frame 0 to this frame; it turns around the origin."""
        x, y = self.velocity * frame * (1 + self.gain * (frame / frames - 1) / 2)
        size, angle = np.exp(self.growth * frame), self.spin * frame
        cosine, sine = size * np.cos(angle), size * np.sin(angle)
        return np.array([[cosine, -sine, x], [sine, cosine, y], [0, 0, 1]])


@dataclass(frozen=True)
class _Cutout:
    """A picture with a mask, its centre at `place` in frame 0."""

    picture: Image.Image
    mask: Image.Image
    place: npt.NDArray[np.float64]
    motion: _Motion


def _animate(
    background: Picture, material: Picture, height: int, width: int, frames: int, random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Clip, uint8 (frames, height, width, 3), over a background of at least twice its sides."""
    size = np.array([width, height], dtype=np.float64)
    whole = np.array([background.shape[1], background.shape[0]], dtype=np.float64)
    low, high = (0.5 + _MARGIN) * size, whole - (0.5 + _MARGIN) * size
    start = random.uniform(low, high)
    camera = _draw_motion(random, min(height, width), frames, turn=0.1, grow=0.1)
    # The camera moves the world: what it shows at the end must still be background.
    end = np.clip(start - camera.velocity * frames, low, high)
    camera = _Motion((start - end) / frames, camera.gain, camera.spin, camera.growth)
    cutouts = [_cutout(material, height, width, frames, random) for _ in range(int(random.integers(2, 6)))]
    scene = Image.fromarray(background)
    fade = float(random.uniform(-0.15, 0.15)) if random.random() < 0.2 else 0.0
    noise = float(random.uniform(0.5, 2.0)) if random.random() < 0.3 else 0.0
    clip = np.empty((frames, height, width, 3), dtype=np.uint8)
    for frame in range(frames):
        view = _shift(size / 2) @ camera.at(frame, frames)
        shown = _warp(scene, view @ _shift(-start), (width, height))
        for cutout in cutouts:
            own = view @ _shift(cutout.place) @ cutout.motion.at(frame, frames)
            own = own @ _shift(-np.array(cutout.picture.size) / 2)
            mask = _warp(cutout.mask, own, (width, height))
            if mask.getbbox() is not None:
                shown.paste(_warp(cutout.picture, own, (width, height)), (0, 0), mask)
        pixels = np.asarray(shown, dtype=np.float32) * np.float32(1 + fade * frame / frames)
        if noise:  # the sensor's, new in every frame
            pixels += random.standard_normal(pixels.shape, dtype=np.float32) * np.float32(noise)
        clip[frame] = np.clip(pixels + 0.5, 0, 255)
    return clip


def _draw_motion(random: np.random.Generator, side: int, frames: int, turn: float, grow: float) -> _Motion:
    """Motion in a random direction; turn, grow: at most, over the clip. A third of all things do not move."""
    still, speed, direction = random.random(3)
    gain, spin, growth = random.uniform(-1, 1, 3)
    if still < 1 / 3:
        return _Motion(np.zeros(2), 0.0, 0.0, 0.0)
    # from 1/500 to 1/25 of the side in a frame, slow motion as likely as fast
    pace = side * 2 ** (-9 + 4.4 * speed)
    velocity = pace * np.array([np.cos(2 * np.pi * direction), np.sin(2 * np.pi * direction)])
    return _Motion(velocity, gain, turn * spin**3 / frames, grow * growth**3 / frames)


def _cutout(material: Picture, height: int, width: int, frames: int, random: np.random.Generator) -> _Cutout:
    """A shape of a fifteenth to half of the frame's side, somewhere in the frame, cut out of the material."""
    side = min(height, width)
    radius = np.array([side * 2 ** random.uniform(-4.0, -1.3)])
    corners = outlines(radius, random)[0]
    sides = np.ceil(2 * np.abs(corners).max(axis=0)).astype(int) + 2
    columns, rows = (int(v) for v in np.minimum(sides, (material.shape[1], material.shape[0])))
    mask = Image.new("L", (columns * _MASK_OVERSAMPLING, rows * _MASK_OVERSAMPLING), 0)
    points = (corners + np.array([columns, rows]) / 2) * _MASK_OVERSAMPLING
    ImageDraw.Draw(mask).polygon(points.ravel().tolist(), fill=255)
    top = int(random.integers(0, material.shape[0] - rows + 1))
    left = int(random.integers(0, material.shape[1] - columns + 1))
    picture = Image.fromarray(np.ascontiguousarray(material[top : top + rows, left : left + columns]))
    place = random.uniform(-0.6, 0.6, 2) * (width, height)
    motion = _draw_motion(random, side, frames, turn=1.0, grow=0.2)
    return _Cutout(picture, mask.reduce(_MASK_OVERSAMPLING), place, motion)


def _shift(by: npt.NDArray[np.float64]) -> Matrix3:
    return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]])


def _warp(image: Image.Image, to_view: Matrix3, size: tuple[int, int]) -> Image.Image:
    """The image in the view, bicubic; black outside."""
    inverse = np.linalg.inv(to_view)
    return image.transform(size, Image.Transform.AFFINE, inverse[:2].ravel().tolist(), Image.Resampling.BICUBIC)
