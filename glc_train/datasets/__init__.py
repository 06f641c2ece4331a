"""Public data sets: fetched, unpacked, counted, and recorded in a manifest that says what they hold."""

from glc_train.datasets.catalogue import SETS, DataSet, find_set
from glc_train.datasets.errors import DataSetError
from glc_train.datasets.manifest import MANIFEST, FileRecord, Manifest, check_folder, read_manifest

__all__ = [
    "MANIFEST",
    "SETS",
    "DataSet",
    "DataSetError",
    "FileRecord",
    "Manifest",
    "check_folder",
    "find_set",
    "read_manifest",
]
