"""What `glc demo` makes of files without a browser: bounds, damage, and that failures leave no folder behind."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glc_train.bitstream import FormatError, VideoHeader
from glc_train.bitstream.video_container import pack_video_header
from glc_train.cli.errors import CommandError
from glc_train.evaluation.sheet import Coded
from glc_train.media import ClipError, write_picture
from tests.media.clip_files import encode, grey

pytest.importorskip("gradio")
from glc_train.cli.demo import clips, pictures
from glc_train.cli.demo.desk import Desk, Made
from glc_train.cli.demo.page import guarded

WISH = pictures.Wish(0, None, 0)


class Decoder:
    """Of frames that are given."""

    def __init__(self, frames: list[np.ndarray], damages: list[str]) -> None:
        self.frames, self.damages, self.size = len(frames), damages, 1
        self._frames = frames

    def __iter__(self) -> Iterator[SimpleNamespace]:
        return iter([SimpleNamespace(index=k, picture=each) for k, each in enumerate(self._frames)])


class FakeDesk(Desk):
    """Its codec keeps one grey picture, whatever it is given."""

    def __init__(self, root: Path, decoder: Decoder | None = None) -> None:
        super().__init__(argparse.Namespace(max_pixels=10_000_000, max_frames=3, max_seconds=60), root)
        self._decoder = decoder

    @property
    def pictures(self) -> Any:
        return SimpleNamespace(
            suffix=".glc", compress=lambda *_: b"file", decompress=lambda _: grey(9), autoencoder=None
        )

    @property
    def clips(self) -> Any:
        raise AssertionError("no codec is needed for what is refused")

    def codec_of(self, *_: object) -> Any:
        return SimpleNamespace(decoder=lambda *_: self._decoder)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pictures, "judged", lambda *_: Coded("GLC", 4, grey(9), 20.0, None))
    write_picture(tmp_path / "a.png", grey(9))
    return tmp_path / "a.png"


def coded(path: Path, width: int = 16, height: int = 16, fps: tuple[int, int] = (25, 1)) -> Path:
    header = VideoHeader(
        width=width, height=height, fps=fps, quality=0, fingerprint=0, intra_period=None, reset_interval=8, pattern=(0,)
    )
    path.write_bytes(pack_video_header(header))
    return path


def test_a_clip_of_frames_that_are_too_large_is_refused_before_it_is_coded(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = FakeDesk(root)
    desk.args.max_pixels = 100
    monkeypatch.setattr(clips, "MAX_PIXELS", 1000)
    with pytest.raises(FormatError, match=r"a\.mp4 has 128x96 pixels, above the limit of 1,000"):
        clips.code(desk, encode(tmp_path / "a.mp4", [grey(9)]), 0, 3, lambda *_: None)


@pytest.mark.parametrize(
    ("size", "fps"), [((16, 16), (2**32 - 1, 1)), ((20000, 16), (25, 1)), ((16, 16), (1, 2**31 - 1))]
)
def test_what_no_video_can_hold_is_said_and_leaves_nothing(
    tmp_path: Path, root: Path, size: tuple[int, int], fps: tuple[int, int]
) -> None:
    source = coded(tmp_path / "a.glcv", *size, fps)
    frames = [np.full((size[1], size[0], 3), 90, np.uint8)] * 2
    with pytest.raises(ClipError, match=rf"a\.mp4: a file of this kind cannot hold {size[0]}×{size[1]} pixels at "):
        clips.open_file(FakeDesk(root, Decoder(frames, [])), source, lambda *_: None)
    assert list(root.iterdir()) == []


def test_where_no_frame_can_be_decoded_the_damage_is_named(tmp_path: Path, root: Path) -> None:
    source, decoder = coded(tmp_path / "a.glcv"), Decoder([], ["frames 0 to 4 are lost"])
    with pytest.raises(CommandError, match=r"a\.glcv: no frame can be decoded \(frames 0 to 4 are lost\); copy or"):
        clips.open_file(FakeDesk(root, decoder), source, lambda *_: None)
    assert list(root.iterdir()) == []


def test_a_picture_that_is_given_up_or_fails_leaves_nothing(
    root: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pictures.code(FakeDesk(root), photo, WISH, lambda *_: None)
    assert next(made).file.read_bytes() == b"file"
    made.close()  # type: ignore[attr-defined]
    assert list(root.iterdir()) == []
    monkeypatch.setattr(pictures, "_table", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(pictures.code(FakeDesk(root), photo, WISH, lambda *_: None))
    assert list(root.iterdir()) == []


def closes(events: Iterator[Any]) -> None:
    next(events), next(events)
    events.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("follow", "fails"), [(list, True), (list, False), (closes, False)])
def test_what_was_made_before_goes_once_something_is_shown_in_its_place(
    root: Path, follow: Callable[[Iterator[Any]], object], fails: bool
) -> None:
    desk, result = FakeDesk(root), SimpleNamespace(notice="notice", column="column")
    (root / "before").mkdir()
    before = Made(root / "before", root / "before" / "a.glc")

    def handler(*_: object) -> Iterator[dict[Any, Any]]:
        yield {}
        if fails:
            raise CommandError("a.png: cannot be done.")

    follow(guarded(desk, result, handler)(None, "a.png", before))  # type: ignore[arg-type]
    assert not before.folder.exists()


def test_what_was_made_before_stays_until_something_takes_its_place(root: Path) -> None:
    result = SimpleNamespace(notice="notice", column="column")
    (root / "before").mkdir()
    before = Made(root / "before", root / "before" / "a.glc")

    def handler(*_: object) -> Iterator[dict[Any, Any]]:
        raise CommandError("a.png: cannot be done.")
        yield {}

    list(guarded(FakeDesk(root), result, handler)(None, "a.png", before))  # type: ignore[arg-type]
    assert before.folder.exists()
