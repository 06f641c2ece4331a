"""Files that `torch.save` wrote, read without running anything that may be in them."""

import os
import warnings
import zipfile
from typing import Any

import torch


class PickleError(ValueError):
    """A file of `torch.save` that cannot be read safely; says which."""


def read_pickle(path: str | os.PathLike[str], mmap: bool = False) -> Any:
    """Tensors, on the CPU, and plain values from a file.

    Args:
        path: the file.
        mmap: leave the tensors' data in the file until they are used.

    Raises:
        OSError: it cannot be opened.
        PickleError: it is damaged, or holds what could run code or would unpack to more than its own size.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(part.file_size for part in archive.infolist()) > size:
                    raise ValueError("torch.save neither compresses nor shares the parts of its archives")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the format of what is then refused, or read all the same
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises a dozen kinds for a bad file; some advise to switch the protection off
        raise PickleError(
            f"{path} is no weights file that can be read safely: it is damaged, or holds more than tensors and plain "
            "values, and so could run code; take the file from where it was made once more."
        ) from error
