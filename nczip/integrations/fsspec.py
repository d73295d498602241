"""fsspec: ``compression="infer"`` knows ``.ncz`` once this is imported.

So do pandas, dask and xarray where they open files through fsspec.
"""

from fsspec.compression import register_compression

from nczip.integrations import open_over

register_compression("ncz", open_over, ["ncz"], force=True)
