"""smart_open: files that end in ``.ncz``, once this is imported.

``smart_open.open(address, "wb", compression_kwargs={"preset": "default"})`` takes another preset.
"""

from smart_open import register_compressor

from nczip.integrations import open_over

register_compressor(".ncz", open_over)
