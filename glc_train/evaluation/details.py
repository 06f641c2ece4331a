"""What the report shows of each file beside its figures, in small files beside the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from glc_train.files import write_text

if TYPE_CHECKING:
    from glc_train.evaluation.codecs import Encoded

DETAILS = "details"
ORIGINALS = "originals"
LOOKED_AT_CRF = 18
"""Of videos that are to be looked at, not measured."""


def write_details(path: Path, encoded: Encoded, size: int) -> None:
    """Write as JSON where the bytes of a file of `size` bytes went; nothing where the codec does not tell.

    `header`, `z`, `passes`: bytes; those of z and of each pass of y are the code lengths of their symbols, which the
    coder does not separate. `symbols`: [value, count]. `map`: bits of y in cells of `cell` pixels, rows of columns,
    over all frames.
    """
    account = encoded.account
    if account is None:
        return
    content = {
        "bytes": size,
        "header": size - account.payload,
        "z": round(account.z_bits / 8, 2),
        "passes": [round(bits / 8, 2) for bits in account.pass_bits],
        "symbols": sorted(account.symbols.items()),
        "cell": encoded.cell,
        "map": None if account.map is None else account.map.round(2).tolist(),
    }
    write_text(path, json.dumps(content, separators=(",", ":")) + "\n")
