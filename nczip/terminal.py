"""Text of strangers on its way to a terminal: names of files and models, messages with them."""

import click


def printable(text: object) -> str:
    """``text`` with everything that a terminal could take for a command written as an escape.

    That is what str.isprintable() says: control characters, marks that change the direction of
    writing, invisible ones, and the bytes of a name that are not text.
    """
    return "".join(c if c.isprintable() else _escape(c) for c in str(text))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def say(message: object) -> None:
    """One line on standard error."""
    click.echo(f"nczip: {printable(' '.join(str(message).split()))}", err=True)
