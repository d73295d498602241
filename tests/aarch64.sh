#!/bin/bash
# The bitstream under an emulated aarch64: prints the hash that stream_hash.py prints there.
# Needs root on Debian 12 (for qemu-user and to fetch arm64 packages) and half an hour, of which the
# primed table takes half: NCZIP_PRIMER_CACHE, where set, brings one that was made natively.
#   usage: tests/aarch64.sh [WORK FOLDER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"/{lists/partial,debs,root,wheels,site}
cd "$work"
command -v qemu-aarch64 >/dev/null || apt-get install -y qemu-user
arm=(-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 "-oDir::State::Lists=$work/lists")
apt-get "${arm[@]}" update
(cd debs && apt-get "${arm[@]}" download python3.11 python3.11-minimal libpython3.11-minimal \
    libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 \
    liblzma5 libuuid1)
for package in debs/*.deb; do dpkg -x "$package" root; done
platforms=(); for v in _2_28 _2_27 2014 _2_17; do platforms+=(--platform "manylinux${v}_aarch64"); done
python3 -m pip download --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
    "${platforms[@]}" -d wheels numba llvmlite numpy xxhash zstandard tokenizers gguf platformdirs \
    filelock click pyyaml requests tqdm huggingface_hub
for wheel in wheels/*.whl; do unzip -qo "$wheel" -d site; done
python3 -m pip install --quiet --no-deps --target site "$here/.."
qemu-aarch64 -L root -E "PYTHONPATH=$work/site:$here" -E "NCZIP_KERNEL_CACHE=$work/kernels" \
    -E "NCZIP_PRIMER_CACHE=${NCZIP_PRIMER_CACHE:-$work/primer}" \
    -E PYTHONDONTWRITEBYTECODE=1 root/usr/bin/python3.11 "$here/stream_hash.py"
