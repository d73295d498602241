"""Hugging Face datasets: data files that end in ``.ncz``, streamed or not, once this is imported.

datasets has lists of compressed file systems, of endings and of first bytes, and one of extractors;
nczip stands in each.
"""

import shutil
from typing import Any

import fsspec
from datasets import filesystems
from datasets.filesystems.compression import BaseCompressedFileFileSystem
from datasets.utils import extract, file_utils

from nczip.file import NczipFile
from nczip.formats.container import MAGIC
from nczip.integrations import fsspec as _registered  # noqa: F401
from nczip.integrations import open_over


class NczipFileSystem(BaseCompressedFileFileSystem):
    """A compressed file as a file system with one file inside."""

    protocol = "ncz"
    compression = "ncz"
    extensions = [".ncz"]  # noqa: RUF012 - as the base has it


class NczipExtractor(extract.MagicNumberBaseExtractor):
    """Unpacks into the cache of datasets."""

    magic_numbers = [MAGIC]  # noqa: RUF012 - as the base has it

    @staticmethod
    def extract(input_path: Any, output_path: Any) -> None:
        """Decompress one file to another."""
        with NczipFile(input_path) as source, open(output_path, "wb") as target:
            shutil.copyfileobj(source, target)


fsspec.register_implementation("ncz", NczipFileSystem, clobber=True)
if NczipFileSystem not in filesystems.COMPRESSION_FILESYSTEMS:
    filesystems.COMPRESSION_FILESYSTEMS.append(NczipFileSystem)
filesystems.EXTENSION_TO_COMPRESSION_FS_FILE_CLS[".ncz"] = open_over
file_utils.COMPRESSION_EXTENSION_TO_PROTOCOL["ncz"] = "ncz"
file_utils.SINGLE_FILE_COMPRESSION_EXTENSION_TO_PROTOCOL["ncz"] = "ncz"
file_utils.SINGLE_FILE_COMPRESSION_PROTOCOLS.add("ncz")
file_utils.MAGIC_NUMBER_TO_COMPRESSION_PROTOCOL[MAGIC] = "ncz"
extract.Extractor.extractors["ncz"] = NczipExtractor
