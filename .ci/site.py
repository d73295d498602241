"""Hook of mkdocs: the site has pages from all of the checkout, and each text is there once.

README.md is the home page, and Markdown that the navigation names by its path in the checkout is a
page. Links between files of the checkout work as they do in the checkout: to a page, or to a copy
of the file.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))  # commands are asked what they are: those of this checkout
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)(#[^)\s]*)?(?=\))")
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):<code>~?([\w.]+)</code>")
_HOME = "README.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of docs/, and the files that any page links to."""
    files.append(_file("index.md", _HOME, config))
    for name in _pages(config.nav):
        if files.get_file_from_path(name) is None and (_ROOT / name).is_file():
            files.append(_file(name, name, config))
    for page in list(files.documentation_pages()):
        for link, _ in _LINK.findall(page.content_string):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(_origin(page)), link))
            if files.get_file_from_path(_place(target)) is None and (_ROOT / target).is_file():
                # Shown as it is: a browser would offer what it does not know for download.
                files.append(_file(_place(target), target, config))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links of the checkout into links of the site."""
    origin = posixpath.dirname(_origin(page.file))
    here = posixpath.dirname(page.file.src_uri)

    def turn(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(origin, match[1]))
        return posixpath.relpath(_place(target), here or ".") + (match[2] or "")

    return _LINK.sub(turn, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Docstrings name things with Sphinx' roles; only the names are shown."""
    return _ROLE.sub(lambda match: f"<code>{match[1].rpartition('.')[2]}</code>", html)


def _pages(nav: Any) -> list[str]:
    """The paths that the navigation names."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [path for part in parts for path in _pages(part)]


def _file(place: str, origin: str, config: Any) -> File:
    return File.generated(config, place, abs_src_path=str(_ROOT / origin))


def _origin(file: File) -> str:
    """The path in the checkout of a file of the site."""
    return Path(file.abs_src_path).relative_to(_ROOT).as_posix()


def _place(path: str) -> str:
    """The path in the site of a file of the checkout."""
    return "index.md" if path == _HOME else path.removeprefix("docs/")
