"""Headers: what settings say of a member, and what the codec makes of it."""

import functools
from dataclasses import replace

from nczip.assets.network import load_network
from nczip.assets.primer import identify, load_primer
from nczip.engines import LoadedModel
from nczip.formats.container import (
    FINGERPRINT_BYTES,
    MIN_TABLE_BITS,
    Header,
    ModelId,
)
from nczip.limits import engine_threads
from nczip.options import Announce
from nczip.planning import Needs
from nczip.predictors.codec import CodecSettings, TransformerSettings, encode
from nczip.predictors.layout import LAYOUTS
from nczip.predictors.primer import Primer
from nczip.settings import Settings


def build_header(settings: Settings, needs: Needs, workers: int) -> Header:
    """The header of a member; model and primer are named only where a block may use them."""
    model = None
    if settings.model is not None and needs.model:
        engine, window = settings.model.engine, settings.window
        model = ModelId(
            engine=settings.model.engine_number,
            fingerprint=engine.fingerprint[:FINGERPRINT_BYTES],
            name=settings.model.name,
            lanes=settings.lanes,
            window=window,
            probe=engine.probe(
                settings.lanes, window, engine_threads(engine.name, workers), settings.sinks
            ),
            sinks=settings.sinks,
            source=settings.model.source,
        )
    # Lanes of bytes cost context and buy nothing: only a user who asks for them gets them.
    byte_lanes = settings.lanes if settings.model is None else 1
    return Header(
        block_size=settings.block_size,
        table_bits=settings.table_bits,
        byte_lanes=byte_lanes,
        primer=identify(settings.layout) if needs.primer else 0,
        model=model,
        layout=settings.layout,
    )


def codec_settings(
    header: Header, model: LoadedModel | None, primer: Primer | None, workers: int
) -> CodecSettings:
    """What the codec needs: what a header says, and the model and the primer that it names."""
    transformer = None
    if header.model is not None and model is not None:
        transformer = TransformerSettings(
            model.engine,
            model.trie,
            header.model.lanes,
            header.model.window,
            engine_threads(model.engine.name, workers),
            header.model.sinks,
        )
    layout = LAYOUTS[header.layout]
    return CodecSettings(
        table_bits=header.table_bits,
        byte_lanes=header.byte_lanes,
        transformer=transformer,
        primer=primer,
        layout=layout,
        network=load_network() if layout.has_network else None,
    )


def open_codec(
    header: Header, model: LoadedModel | None, workers: int, announce: Announce | None
) -> CodecSettings:
    """The codec for a header, with the primer that it names.

    Raises:
        PrimerError: that primer is not here.
        ModelError: the recurrent network is not.
    """
    plain = codec_settings(header, model, None, workers)
    if not header.primer:
        return plain
    fingerprint = None if header.model is None else header.model.fingerprint
    # Where the table has to be made, kernels are compiled meanwhile.
    compile_kernels = functools.partial(warm_up, plain)
    known = load_primer(header.primer, fingerprint, header.layout, compile_kernels, announce)
    return replace(plain, primer=known)


def warm_up(settings: CodecSettings) -> None:
    """Compile or load all kernels that coding takes, by coding a few bytes."""
    tokens = b"" if settings.transformer is None else b"a few words"
    encode(tokens, b"a few bytes", replace(settings, table_bits=MIN_TABLE_BITS))
