"""Pictures of formats that may hold a program."""

import io
import struct
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image

from glc_train.media import PictureError, read_picture


def iptc(inner: bytes) -> bytes:
    """An IPTC file of a grey picture that is stored as the file `inner`."""
    fields = [(3, 60, b"\1\0"), (3, 20, b"\0\x08"), (3, 30, b"\0\x08"), (3, 120, b"\1"), (8, 10, inner)]
    return b"".join(struct.pack(">BBBH", 0x1C, *kind, len(data)) + data for *kind, data in fields)


@pytest.mark.parametrize(("wrapped", "kind"), [(False, "EPS"), (True, "IPTC")])
def test_no_program_is_run_whatever_the_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: bool, kind: str
) -> None:
    ran: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: ran.append(given))
    drawing = io.BytesIO()
    Image.new("L", (8, 8), 200).save(drawing, "EPS")
    data = drawing.getvalue()
    (tmp_path / "a.png").write_bytes(iptc(data) if wrapped else data)
    with pytest.raises(PictureError, match=rf"a\.png: a file of the format {kind}, which may hold a program, is not"):
        read_picture(tmp_path / "a.png")
    assert not ran
