"""nczip in other libraries, each test with the real one and the way its users call it."""

import importlib.metadata
import io
import json
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from tests_support import english

import nczip

FAST = {"preset": "fast", "primer": False}
TABLE = b"name,count\nalpha,1\nbeta,22\ngamma,333\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv.ncz"
    path.write_bytes(nczip.compress(TABLE, **FAST))
    return path


@pytest.fixture
def fsspec():
    module = pytest.importorskip("fsspec", reason="the fsspec extra is not installed")
    import nczip.integrations.fsspec  # noqa: F401

    return module


def test_fsspec_infers_the_compression_from_the_name(fsspec, table, tmp_path):
    with fsspec.open(str(table), "rb", compression="infer") as file:
        assert file.read() == TABLE
    with fsspec.open(str(table), "rt", compression="infer") as file:
        assert file.readlines()[1] == "alpha,1\n"
    with fsspec.open(str(tmp_path / "new.txt.ncz"), "wb", compression="infer") as file:
        file.write(b"written through fsspec")
    assert nczip.open(tmp_path / "new.txt.ncz").read() == b"written through fsspec"
    assert fsspec.utils.infer_compression("s3://bucket/x.ncz") == "ncz"


def test_fsspec_reads_from_any_of_its_file_systems(fsspec):
    memory = fsspec.filesystem("memory")
    memory.pipe("/folder/a.ncz", nczip.compress(b"in memory", **FAST))
    with fsspec.open("memory://folder/a.ncz", compression="infer") as file:
        assert file.read() == b"in memory"
        file.seek(3)
        assert file.read(6) == b"memory"


def test_pandas_reads_and_writes_through_fsspec(fsspec, table, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    with fsspec.open(str(table), compression="infer") as file:
        assert pandas.read_csv(file)["count"].tolist() == [1, 22, 333]
    address = f"local://{table}"
    frame = pandas.read_csv(address, storage_options={"compression": "infer"})
    assert frame["name"].tolist() == ["alpha", "beta", "gamma"]
    written = tmp_path / "out.json.ncz"
    frame.to_json(f"local://{written}", storage_options={"compression": "infer"})
    assert json.loads(nczip.open(written).read())["count"] == {"0": 1, "1": 22, "2": 333}


def test_dask_infers_the_compression(fsspec, table):
    dataframe = pytest.importorskip("dask.dataframe", reason="dask is not installed")
    bag = pytest.importorskip("dask.bag", reason="dask is not installed")
    frame = dataframe.read_csv(str(table), compression="infer", blocksize=None)
    assert frame["count"].sum().compute(scheduler="synchronous") == 356
    lines = bag.read_text(str(table), compression="infer").compute(scheduler="synchronous")
    assert next(iter(lines)) == "name,count\n"


def test_xarray_opens_a_dataset_through_fsspec(fsspec, tmp_path):
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    pytest.importorskip("h5netcdf", reason="h5netcdf is not installed")
    plain = tmp_path / "field.nc"
    xarray.Dataset({"t": ("x", np.arange(200.0))}).to_netcdf(plain, engine="h5netcdf")
    packed = tmp_path / "field.nc.ncz"
    packed.write_bytes(nczip.compress(plain.read_bytes(), **FAST))
    with (
        fsspec.open(str(packed), compression="infer") as file,
        xarray.open_dataset(file, engine="h5netcdf") as found,
    ):
        assert found["t"].values.tolist() == list(range(200))


def test_numcodecs_finds_the_codec_by_its_entry_point():
    numcodecs = pytest.importorskip("numcodecs", reason="the numcodecs extra is not installed")
    _need_entry_points("numcodecs.codecs")
    codec = numcodecs.get_codec({"id": "nczip", "preset": "fast", "primer": False})
    data = np.arange(600, dtype="<i4").reshape(20, 30)
    packed = codec.encode(data)
    assert len(packed) < data.nbytes / 2
    out = np.empty_like(data)
    codec.decode(packed, out)
    assert (out == data).all()
    assert bytes(codec.decode(packed)) == data.tobytes()
    assert codec.get_config() == {"id": "nczip", "preset": "fast", "primer": False}
    assert numcodecs.get_codec(codec.get_config()) == codec


def test_zarr_finds_the_codec_by_its_entry_point(tmp_path):
    zarr = pytest.importorskip("zarr", reason="the zarr extra is not installed")
    _need_entry_points("zarr.codecs")
    from nczip.integrations.zarr import NczipCodec

    data = np.arange(40_000, dtype="i4").reshape(200, 200)
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=data.shape, chunks=(100, 200), dtype="i4",
        compressors=NczipCodec(primer=False),
    )  # fmt: skip
    array[:] = data
    # In a fresh process, which has the metadata only.
    code = (
        "import sys, zarr\n"
        "array = zarr.open_array(sys.argv[1])\n"
        "print(array[:].sum(), type(array.metadata.codecs[-1]).__name__, array.nbytes_stored())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.zarr")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    total, name, stored = run.stdout.split()
    assert (int(total), name) == (data.sum(), "NczipCodec")
    assert int(stored) < data.nbytes / 4
    with pytest.raises(ValueError, match="preset"):
        NczipCodec(preset="fastest")


def test_zarr_of_format_2_takes_the_codec_of_numcodecs(tmp_path):
    zarr = pytest.importorskip("zarr", reason="the zarr extra is not installed")
    _need_entry_points("numcodecs.codecs")
    from nczip.integrations.numcodecs import Nczip

    store = str(tmp_path / "b.zarr")
    array = zarr.create_array(
        store, shape=(500,), chunks=(250,), dtype="f8", zarr_format=2,
        compressors=Nczip(primer=False),
    )  # fmt: skip
    array[:] = np.linspace(0, 1, 500)
    assert (zarr.open_array(store)[:] == np.linspace(0, 1, 500)).all()
    assert json.loads((tmp_path / "b.zarr/.zarray").read_text())["compressor"]["id"] == "nczip"


def _need_entry_points(group):
    if "nczip" not in {point.name for point in importlib.metadata.entry_points(group=group)}:
        pytest.skip("entry points come with installation: pip install -e .")


def test_joblib_dumps_and_loads(tmp_path):
    joblib = pytest.importorskip("joblib", reason="the joblib extra is not installed")
    import nczip.integrations.joblib  # noqa: F401

    value = {"array": np.arange(5000), "text": "words " * 50}
    for name, compress in (("a.ncz", 0), ("b.bin", ("ncz", 3)), ("c.ncz", ("ncz", 5))):
        path = tmp_path / name
        joblib.dump(value, path, compress=compress)
        assert path.read_bytes()[:4] == b"\x8eNCZ"
        found = joblib.load(path)
        assert (found["array"] == value["array"]).all()
        assert found["text"] == value["text"]


def test_smart_open_opens_by_ending(tmp_path):
    smart_open = pytest.importorskip("smart_open", reason="the smart-open extra is not installed")
    import nczip.integrations.smart_open

    path = tmp_path / "lines.txt.ncz"
    with smart_open.open(path, "w", compression_kwargs={"primer": False}) as file:
        file.write("one\ntwo\n")
    assert nczip.open(path).read() == b"one\ntwo\n"
    with smart_open.open(path) as file:
        assert list(file) == ["one\n", "two\n"]
    with smart_open.open(path, "rb") as file:
        file.seek(4)
        assert file.read() == b"two\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_bytes(english(3000))
    (source / "sub" / "b.txt").write_bytes(b"b")
    return source


@pytest.mark.parametrize("ending", ["tar.ncz", "tncz"])
def test_shutil_makes_and_unpacks_archives(folder, tmp_path, ending):
    import nczip.integrations.tarfile  # noqa: F401

    made = shutil.make_archive(str(tmp_path / "out"), "ncztar", str(folder))
    assert made == str(tmp_path / "out.tar.ncz")
    named = tmp_path / f"named.{ending}"
    shutil.move(made, named)
    shutil.unpack_archive(str(named), tmp_path / "back")
    assert (tmp_path / "back/a.txt").read_bytes() == english(3000)
    assert (tmp_path / "back/sub/b.txt").read_bytes() == b"b"
    (tmp_path / "bad.tncz").write_bytes(b"no archive")
    with pytest.raises(shutil.ReadError):
        shutil.unpack_archive(str(tmp_path / "bad.tncz"), tmp_path / "back")


def test_shutil_archives_keep_folder_and_owner_asked_for(folder, tmp_path):
    grp = pytest.importorskip("grp", reason="owners have names on POSIX")
    from nczip.integrations.tarfile import NczipTarFile

    group = grp.getgrgid(0).gr_name
    made = shutil.make_archive("out", "ncztar", folder.parent, "source/sub", group=group)
    with NczipTarFile.open(made) as archive:
        assert archive.getnames() == ["source/sub", "source/sub/b.txt"]
        assert {entry.gname for entry in archive} == {group}


def test_unpacking_leaves_nothing_outside_of_the_folder(tmp_path):
    from nczip.integrations.tarfile import NczipTarFile

    evil = tmp_path / "evil.tar.ncz"
    with NczipTarFile.open(evil, "w:ncz", preset="fast") as archive:
        entry = tarfile.TarInfo("../escaped")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(tarfile.OutsideDestinationError):
        shutil.unpack_archive(str(evil), tmp_path / "in")
    assert not (tmp_path / "escaped").exists()


def test_tarfile_opens_what_it_finds(folder, tmp_path):
    from nczip.integrations.tarfile import NczipTarFile

    for name, mode in (("t.tar.ncz", "w:ncz"), ("t.tar.gz", "w:gz"), ("t.tar", "w")):
        options = {"preset": "fast"} if mode == "w:ncz" else {}
        with NczipTarFile.open(tmp_path / name, mode, **options) as archive:
            archive.add(folder, "x")
        with NczipTarFile.open(tmp_path / name) as archive:  # r:*
            assert archive.extractfile("x/sub/b.txt").read() == b"b"
    with (
        (tmp_path / "t.tar.ncz").open("rb") as file,
        NczipTarFile.open(fileobj=file, mode="r:ncz") as archive,
    ):
        assert len(archive.getmembers()) == 4
    with pytest.raises(tarfile.ReadError):
        NczipTarFile.open(tmp_path / "t.tar.gz", "r:ncz")
    damaged = bytearray((tmp_path / "t.tar.ncz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(tarfile.ReadError):
        NczipTarFile.open(fileobj=io.BytesIO(damaged), mode="r:ncz")


def test_datasets_load_and_stream_compressed_files(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="the datasets extra is not installed")
    import nczip.integrations.datasets

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [{"text": f"line {i}", "number": i} for i in range(40)]
    path = tmp_path / "rows.jsonl.ncz"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(nczip.compress(lines.encode(), **FAST))
    options = {"data_files": str(path), "split": "train", "cache_dir": str(tmp_path / "cache")}
    assert list(datasets.load_dataset("json", **options)) == rows
    assert list(datasets.load_dataset("json", streaming=True, **options)) == rows


def test_arrow_reads_compressed_files(tmp_path, table):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import csv, ipc, parquet

    with nczip.open(table) as file:
        found = csv.read_csv(file)
    assert found["count"].to_pylist() == [1, 22, 333]
    with (
        nczip.open(tmp_path / "t.arrow.ncz", "wb", **FAST) as file,
        ipc.new_file(file, found.schema) as writer,
    ):
        writer.write_table(found)
    with nczip.open(tmp_path / "t.arrow.ncz") as file:
        assert ipc.open_file(file).read_all() == found
    with nczip.open(tmp_path / "t.parquet.ncz", "wb", **FAST) as file:
        parquet.write_table(found, file, compression="none")
    with nczip.open(tmp_path / "t.parquet.ncz") as file:
        assert parquet.read_table(pyarrow.PythonFile(file)) == found


def test_registering_with_every_host_names_those_that_are_here():
    from nczip import integrations

    found = integrations.register()
    assert "tarfile" in found
    assert set(found) <= set(integrations.HOSTS)
    assert "ncztar" in dict(shutil.get_archive_formats())
