"""Public data sets: fetched, unpacked, counted, and recorded in a manifest that says what they hold."""

from glc_train.datasets.catalogue import SETS, DataSet, find_set
from glc_train.datasets.errors import DataSetError
from glc_train.datasets.manifest import MANIFEST, FileRecord, Manifest, check_folder, read_manifest
from glc_train.datasets.prepare import Options, prepare

__all__ = [
    "MANIFEST",
    "SETS",
    "DataSet",
    "DataSetError",
    "FileRecord",
    "Manifest",
    "Options",
    "check_folder",
    "find_set",
    "prepare",
    "read_manifest",
]
