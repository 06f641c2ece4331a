"""Lists of clips as text files, from whatever editor."""

from pathlib import Path

import pytest

from glc_train.data import find_clips
from glc_train.media import ClipError


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_of_a_list_counts(tmp_path: Path, mark: bytes, end: str) -> None:
    names = ["a.mp4", "\u00e4 b.mp4", "c/d"]
    (tmp_path / "list.txt").write_bytes(mark + end.join(names).encode())
    assert find_clips(tmp_path / "list.txt") == [tmp_path / name for name in names]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_list_in_utf_16_is_refused_by_name(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.txt").write_bytes("a.mp4\nb.mp4\n".encode(encoding))
    with pytest.raises(ClipError, match=r"list\.txt: the list is in UTF-16, or no text; save it as UTF-8"):
        find_clips(tmp_path / "list.txt")
