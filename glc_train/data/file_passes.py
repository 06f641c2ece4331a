"""Endless passes over files, and a bounded memory of what was decoded: what sources of pictures and of clips share."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch

from glc_train.data.source import sample_generator
from glc_train.files import printable

Value = TypeVar("Value")

_MOMENT = 0.02  # seconds, in which any process that saw the flag unset has set it


class Passes:
    """Numbered samples in endless passes; one that cannot be used is named once in the log, and replaced."""

    def __init__(self, count: int, noun: str, origin: str, error: type[ValueError]) -> None:
        """Pass over `count` samples.

        noun, origin: what they are and where they come from, in messages.
        error: what using one raises if it cannot be used; others are not caught.
        """
        self._count = count
        self._noun = noun
        self._origin = origin
        self._error = error

    def number(self, place: int) -> int:
        """Return the number of the sample at `place` >= 0 of the sequence."""
        raise NotImplementedError

    def use(self, place: int, use: Callable[[int], Value]) -> Value:
        """Return `use(number)` of the sample at `place`, or of the next one of its pass that can be used.

        Raises: the error of the constructor if none of them can be used.
        """
        lap, position = divmod(place, self._count)
        for step in range(self._count):
            number = self.number(lap * self._count + (position + step) % self._count)
            try:
                return use(number)
            except self._error as error:
                self.skipped(number, error)
        raise self._error(f"{self._origin}: none of the {self._count} {self._noun}s can be read; replace them.")

    def skipped(self, number: int, error: ValueError) -> None:
        """Note that this sample cannot be used."""
        raise NotImplementedError


class FilePasses(Passes):
    """Files in endless passes, each in a new random order; what cannot be read is named once and replaced.

    Which file place i of the sequence has depends on (seed, i) and the list of files alone.

    Attributes:
        paths: the files.
        unreadable: those that could not be read, with the reason.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        seed: int,
        noun: str,
        error: type[ValueError],
        logger: logging.Logger,
    ) -> None:
        """Pass over `paths`.

        noun: what they are, in messages and in the seed of the order.
        error: what reading one raises if it is unreadable; others are not caught.
        """
        super().__init__(len(paths), noun, str(paths[0].parent), error)
        self.paths = list(paths)
        self.unreadable: dict[Path, str] = {}
        self._named = shared_flags(len(self.paths))
        self._seed = seed
        self._logger = logger
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def path(self, place: int) -> Path:
        """Return the file at `place` >= 0 of the sequence."""
        return self.paths[self.number(place)]

    def read(self, place: int, read: Callable[[Path], Value]) -> Value:
        """Return `read(file)` of the file at `place`, or of the next one of its pass that can be read.

        Raises: the error of the constructor if none of them can be read.
        """
        return self.use(place, lambda number: read(self.paths[number]))

    def number(self, place: int) -> int:
        """Return the number of the file at `place` >= 0 of the sequence."""
        lap, position = divmod(place, len(self.paths))
        if self._order[0] != lap:
            purpose = "folder pass" if self._noun == "picture" else f"folder {self._noun} pass"
            self._order = (lap, sample_generator(self._seed, purpose, lap).permutation(len(self.paths)))
        return int(self._order[1][position])

    def skipped(self, number: int, error: ValueError) -> None:
        """Name the file, if none of the loader processes has."""
        self.unreadable.setdefault(self.paths[number], str(error))
        if claims(self._named, number):
            told, message = int((self._named != 0).sum()), printable(str(error))
            self._logger.warning("Skipped %s %d of %d: %s", self._noun, told, len(self.paths), message)


def shared_flags(count: int) -> torch.Tensor:
    """`count` flags, int32, that loader processes have in common; none is set, see `claims`."""
    return torch.zeros(count, dtype=torch.int32).share_memory_()


def claims(flags: torch.Tensor, number: int) -> bool:
    """Sets a flag; whether this process is the one that did: of several at a time, the last."""
    if flags[number]:
        return False
    flags[number] = os.getpid()
    time.sleep(_MOMENT)
    return int(flags[number]) == os.getpid()


def first_readable(
    paths: Sequence[Path], count: int, read: Callable[[Path], object], error: type[ValueError], logger: logging.Logger
) -> list[Path]:
    """Return the first `count` of the `paths` that `read` takes; the log names those among them that it does not.

    error: what `read` raises of a file that cannot be used. Raises: the first of these if no file can be used.
    """
    readable: list[Path] = []
    refusals: list[ValueError] = []
    for path in paths:
        if len(readable) == count:
            break
        try:
            read(path)
            readable.append(path)
        except error as refusal:
            refusals.append(refusal)
    if refusals and not readable:
        raise refusals[0]
    for told in refusals:
        logger.warning("Left out of the validation: %s", printable(str(told)))
    return readable


class DecodedCache(Generic[Value]):
    """Decoded files up to a number of MiB: first come, first kept.

    In passes over more than fits, evicting the oldest would never hit.
    """

    def __init__(self, limit_mb: float) -> None:
        """Keep at most `limit_mb` MiB."""
        self._kept: dict[Hashable, Value] = {}
        self._left = int(limit_mb * 2**20)

    def get(self, key: Hashable) -> Value | None:
        """Return what was kept under `key`, or `None`."""
        return self._kept.get(key)

    def fits(self, size: int) -> bool:
        """Whether `size` more bytes would be kept."""
        return size <= self._left

    def offer(self, key: Hashable, value: Value, size: int) -> None:
        """Keep `value` of `size` bytes under the new `key`, if it fits."""
        if self.fits(size):
            self._kept[key] = value
            self._left -= size
