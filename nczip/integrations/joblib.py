"""joblib: ``dump(value, "value.ncz")``, ``compress=("ncz", 3)``, and ``load``, once imported."""

from typing import BinaryIO

from joblib import register_compressor
from joblib.compressor import CompressorWrapper

from nczip.file import NczipFile, Path
from nczip.formats.container import MAGIC
from nczip.presets import PresetName


class JoblibFile(NczipFile):
    """A compressed file with a level from 1 to 9 in place of a preset.

    Without a level it is the preset ``fast``: arrays are no text.
    """

    def __init__(
        self, filename: Path | BinaryIO, mode: str = "rb", compresslevel: int | None = None
    ) -> None:
        preset: PresetName = "fast"
        if compresslevel is not None and compresslevel >= 5:
            preset = "max" if compresslevel == 9 else "default"
        super().__init__(filename, mode, **({} if mode.startswith("r") else {"preset": preset}))


register_compressor("ncz", CompressorWrapper(JoblibFile, MAGIC, ".ncz"), force=True)
