"""``nczip explain``: a text as a page, coloured by what its tokens cost."""

import html
import re

import numpy as np
import numpy.typing as npt

from nczip.evaluation import Evaluation
from nczip.terminal import printable

I64Array = npt.NDArray[np.int64]

#: Bits from which a piece has the next colour.
_LEVELS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0)
_COLOURS = (
    "#ffffff", "#fdfbe8", "#fcf5cc", "#fcecac", "#fbdc88", "#f9c066", "#f59a51", "#e96a45",
    "#cb3a3c", "#8a1538",
)  # fmt: skip
_LIGHT_TEXT_FROM = 8  # levels whose colour is too dark for dark text
_LEAST_SHOWN = 1.0  # bits from which the end of a line gets a mark
_BARS = 120
_SURPRISES = 20
_AROUND = 40  # characters of context on each side of a surprise

_STYLE = """
:root { color-scheme: light; }
body { background: #fff; color: #222; font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
       max-width: 60rem; padding: 0 1rem; }
pre, .mono { font: 14px/1.6 ui-monospace, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #ddd; padding: 1rem; }
table { border-collapse: collapse; }
th, td { padding: .1rem .8rem .1rem 0; text-align: right; }
th:first-child, td:first-child, .mono { text-align: left; }
svg { display: block; width: 100%; height: 80px; background: #f7f7f7; }
.key span { padding: .1rem .5rem; }
.n::before { content: "\\21b5"; }
:target { outline: 3px solid #06c; }
"""


def explain(data: bytes, found: Evaluation, title: str) -> str:
    """A page, complete in itself and without scripts, that shows what each piece cost.

    Args:
        data: the raw bytes; what is no UTF-8, and what a browser would not show, is escaped.
        found: what they cost.
        title: the page's, plain text.
    """
    starts, bits = pieces(data, found)
    ends = [*starts[1:].tolist(), len(data)][: len(starts)]
    texts = [_shown(data[a:b]) for a, b in zip(starts.tolist(), ends, strict=True)]
    levels = np.searchsorted(_LEVELS, bits, side="right")
    worst = np.argsort(-bits, kind="stable")[:_SURPRISES].tolist()
    body = "".join(
        _piece(text, level, cost, f' id="p{number}"' if number in set(worst) else "")
        for number, (text, level, cost) in enumerate(
            zip(texts, levels.tolist(), bits.tolist(), strict=True)
        )
    )
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n",
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>{html.escape(title)}</title>\n<style>{_STYLE}{_level_style()}</style></head>\n",
            f"<body><h1>{html.escape(title)}</h1>\n",
            _summary(data, found, bits),
            "<h2>Where the bits go</h2>\n",
            _bars(found.byte_bits),
            "<h2>What surprised most</h2>\n",
            _surprises(texts, bits, worst),
            "<h2>The text</h2>\n",
            _key(),
            f"<pre>{body}</pre></body></html>\n",
        ]
    )


def pieces(data: bytes, found: Evaluation) -> tuple[I64Array, npt.NDArray[np.float64]]:
    """Where the pieces start that are shown, int64[p], and their bits, float64[p].

    They are tokens, and characters where there are none; no piece starts inside of a character.
    """
    if not data:
        return np.zeros(0, np.int64), np.zeros(0)
    size = len(data)
    edges = np.zeros(size + 1, np.int64)
    np.add.at(edges, found.token_starts, 1)
    np.add.at(edges, found.token_ends, -1)
    is_start = np.cumsum(edges[:-1]) == 0  # what belongs to no token
    is_start[found.token_starts] = True
    is_start[found.token_ends[found.token_ends < size]] = True
    try:
        data.decode()
    except UnicodeDecodeError:
        pass
    else:
        is_start &= np.frombuffer(data, np.uint8) & 0xC0 != 0x80
    is_start[0] = True
    starts = np.flatnonzero(is_start).astype(np.int64)
    return starts, np.add.reduceat(found.byte_bits, starts)


def _shown(piece: bytes) -> str:
    """A piece as text in which nothing is invisible, and no mark turns the direction of reading."""
    text = piece.decode(errors="surrogateescape").replace("\r\n", "\n")
    return re.sub(r"[^\n\t]+", lambda found: printable(found[0]), text)


def _piece(text: str, level: int, bits: float, anchor: str) -> str:
    mark = " n" if text.startswith("\n") and bits >= _LEAST_SHOWN else ""
    return f'<span class="c{level}{mark}" title="{bits:.2f}"{anchor}>{html.escape(text)}</span>'


def _level_style() -> str:
    rules = []
    for level, colour in enumerate(_COLOURS):
        light = "; color: #fff" if level >= _LIGHT_TEXT_FROM else ""
        rules.append(f".c{level} {{ background: {colour}{light} }}\n")
    return "".join(rules)


def _key() -> str:
    names = [f"under {_LEVELS[0]:g}", *(f"{bits:g}" for bits in _LEVELS)]
    names[-1] += " and more"
    spans = (f'<span class="c{level}">{name}</span>' for level, name in enumerate(names))
    return (
        f'<p class="key">bits for a token, or a character where there are no tokens: '
        f"{''.join(spans)}</p>\n"
    )


def _summary(data: bytes, found: Evaluation, bits: npt.NDArray[np.float64]) -> str:
    total = float(found.byte_bits.sum())
    rows = [
        ("bytes", f"{len(data):,}"),
        ("coded in bytes", f"{total / 8:,.0f}"),
        ("bits per byte", f"{found.bits_per_byte:.3f}"),
    ]
    if len(found.token_bits):
        rows.append(("tokens", f"{len(found.token_bits):,}"))
        rows.append(("bits for a token, mean", f"{found.token_bits.mean():.2f}"))
        rows.append(("bits for a token, median", f"{np.median(found.token_bits):.2f}"))
    if total:
        order = np.cumsum(np.sort(bits)[::-1])
        share = (np.searchsorted(order, total / 2) + 1) / len(bits)
        rows.append(("share of the pieces that take half of the bits", f"{share:.1%}"))
    cells = (f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>\n"


def _bars(byte_bits: npt.NDArray[np.float64]) -> str:
    """Bits per byte along the text, as a chart of bars."""
    if not len(byte_bits):
        return "<p>Nothing.</p>\n"
    edges = np.unique(np.linspace(0, len(byte_bits), _BARS + 1).astype(int))
    means = np.add.reduceat(byte_bits, edges[:-1]) / np.diff(edges)
    top = max(float(means.max()), 1e-9)
    width = 1000 / len(means)
    bars = (
        f'<rect x="{i * width:.1f}" y="{100 - 100 * mean / top:.1f}" width="{width * 0.9:.1f}" '
        f'height="{100 * mean / top:.1f}" fill="#e96a45">'
        f"<title>bytes {a:,} to {b:,}: {mean:.2f} bits per byte</title></rect>"
        for i, (mean, a, b) in enumerate(
            zip(means.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        )
    )
    return (
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" '
        f'aria-label="bits per byte along the text">{"".join(bars)}</svg>\n'
        f"<p>From start to end; the highest bar is {top:.2f} bits per byte.</p>\n"
    )


def _surprises(texts: list[str], bits: npt.NDArray[np.float64], worst: list[int]) -> str:
    rows = []
    for number in worst:
        before = "".join(texts[max(number - _AROUND, 0) : number])[-_AROUND:]
        after = "".join(texts[number + 1 : number + 1 + _AROUND])[:_AROUND]
        shown = (
            f"{html.escape(before)}<b>{html.escape(texts[number])}</b>{html.escape(after)}"
        ).replace("\n", "\u21b5")
        rows.append(
            f'<tr><td><a href="#p{number}">{bits[number]:.1f}</a></td>'
            f'<td class="mono">{shown}</td></tr>'
        )
    return f"<table><tr><th>bits</th><th></th></tr>{''.join(rows)}</table>\n"
