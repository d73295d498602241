"""Text of kinds that no collection at hand holds: logs, tables, wiki markup.

The shapes are those of widely used formats, the content is invented or comes from the articles
that are passed in. Nothing here looks at the evaluation corpora.
"""

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator

_HOSTS = [
    "web01",
    "web02",
    "db-master",
    "db-replica",
    "cache1",
    "proxy",
    "gateway",
    "worker-3",
    "worker-7",
    "build",
    "node12",
]
_USERS = [
    "root",
    "admin",
    "alice",
    "bob",
    "carol",
    "deploy",
    "www-data",
    "postgres",
    "backup",
    "jenkins",
    "guest",
]
_SERVICES = [
    "sshd",
    "nginx",
    "cron",
    "kernel",
    "systemd",
    "postfix",
    "dhclient",
    "sudo",
    "NetworkManager",
    "dockerd",
]
_METHODS = ["GET"] * 8 + ["POST"] * 2 + ["PUT", "DELETE", "HEAD"]
_STATUS = [200] * 12 + [304] * 3 + [404, 404, 301, 302, 500, 403]
_LEVELS = ["INFO"] * 8 + ["WARN", "ERROR", "DEBUG", "DEBUG"]
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
_DOMAINS = ["com", "org", "net", "edu", "gov", "de", "co.uk", "io", "fr", "jp"]
_NOUNS = [
    "connection",
    "session",
    "request",
    "response",
    "server",
    "client",
    "user",
    "file",
    "block",
    "packet",
    "task",
    "job",
    "service",
    "module",
    "thread",
    "process",
    "cache",
    "index",
    "table",
    "record",
    "message",
    "queue",
    "worker",
    "device",
    "interface",
]
_VERBS = [
    "opened",
    "closed",
    "started",
    "stopped",
    "received",
    "sent",
    "failed",
    "completed",
    "created",
    "deleted",
]
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/96.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:95.0) Gecko/20100101 Firefox/95.0",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "curl/7.81.0",
)


class _World:
    """A random source with a clock and a stock of names that recur, as they do in real logs."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        r = self.random
        self.seconds = r.randrange(86400 * 20)
        self.year, self.month = r.randint(2003, 2024), r.randrange(12)
        self.addresses = [".".join(str(r.randrange(1, 255)) for _ in range(4)) for _ in range(30)]
        self.names = [
            "".join(r.choices("abcdefghiklmnoprstuvw", k=r.randint(3, 9))) for _ in range(60)
        ]
        self.pid = r.randrange(200, 30000)

    def tick(self) -> None:
        self.seconds = (self.seconds + self.random.choice([0, 0, 0, 1, 1, 2, 5, 31])) % (86400 * 27)

    @property
    def day(self) -> int:
        return 1 + self.seconds // 86400

    @property
    def clock(self) -> str:
        s = self.seconds % 86400
        return f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}"

    def pick(self, options: list[str]) -> str:
        """Small indices are more frequent, as popular names are."""
        return options[min(int(self.random.expovariate(4 / len(options))), len(options) - 1)]

    def path(self) -> str:
        depth = self.random.randint(1, 4)
        return "/" + "/".join(self.pick(self.names) for _ in range(depth))

    def url(self) -> str:
        r = self.random
        scheme = r.choice(["http", "http", "https"])
        www = r.choice(["www.", "www.", ""])
        query = f"?id={r.randrange(100000)}" if r.random() < 0.15 else ""
        end = r.choice([".html", ".htm", "/", ".php", ".jpg", ".pdf", ""])
        return (
            f"{scheme}://{www}{self.pick(self.names)}.{r.choice(_DOMAINS)}{self.path()}{end}{query}"
        )

    def sentence(self) -> str:
        r = self.random
        return f"{r.choice(_NOUNS)} {self.pick(self.names)} {r.choice(_VERBS)}"


def _syslog(w: _World) -> str:
    r = w.random
    message = r.choice([
        f"Accepted publickey for {r.choice(_USERS)} from {w.pick(w.addresses)} port {r.randrange(1024, 65535)} ssh2",
        f"Failed password for invalid user {w.pick(w.names)} from {w.pick(w.addresses)} port {r.randrange(1024, 65535)} ssh2",
        f"pam_unix(sshd:session): session opened for user {r.choice(_USERS)} by (uid=0)",
        f"({r.choice(_USERS)}) CMD (/usr/local/bin/{w.pick(w.names)}.sh)",
        f"{w.sentence()}, status={r.randrange(3)}",
        f"DHCPREQUEST on eth0 to {w.pick(w.addresses)} port 67",
        f"[{r.random() * 1e5:.6f}] {w.pick(w.names)}: {w.sentence()} at 0x{r.randrange(1 << 32):08x}",
    ])  # fmt: skip
    return f"{_MONTHS[w.month]} {w.day:2d} {w.clock} {w.pick(_HOSTS)} {r.choice(_SERVICES)}[{w.pid + r.randrange(9)}]: {message}"


def _access(w: _World) -> str:
    r = w.random
    referer = w.url() if r.random() < 0.3 else "-"
    return (
        f"{w.pick(w.addresses)} - - [{w.day:02d}/{_MONTHS[w.month]}/{w.year}:{w.clock} +0000] "
        f'"{r.choice(_METHODS)} {w.path()} HTTP/1.1" {r.choice(_STATUS)} {r.randrange(90000)} '
        f'"{referer}" "{w.pick(list(_AGENTS))}"'
    )


def _server(w: _World) -> str:
    r = w.random
    date = f"{w.year}-{w.month + 1:02d}-{w.day:02d} {w.clock},{r.randrange(1000):03d}"
    level = r.choice(_LEVELS)
    unit = f"org.{w.pick(w.names)}.{w.pick(w.names)}.{r.choice(_NOUNS).title()}Manager"
    return f"{date} {level:5s} [{r.choice(_NOUNS)}-{r.randrange(16)}] {unit}: {w.sentence()} in {r.randrange(4000)} ms"


def _weekday(w: _World) -> str:
    r = w.random
    level = r.choice(["notice", "error", "warn", "info"])
    day = _DAYS[(w.day + w.month) % 7]
    return f"[{day} {_MONTHS[w.month]} {w.day:02d} {w.clock} {w.year}] [{level}] [client {w.pick(w.addresses)}] {w.sentence()}: {w.path()}"


def _compact(w: _World) -> str:
    r = w.random
    date = f"{w.year % 100:02d}{w.month + 1:02d}{w.day:02d} {w.clock.replace(':', '')}"
    return f"{date} {w.pid + r.randrange(40)} {r.choice(_LEVELS)} {r.choice(_NOUNS)}.{r.choice(_NOUNS).title()}: {w.sentence()} of size {r.randrange(1 << 26)} from /{w.pick(w.addresses)}"


def _json(w: _World) -> str:
    r = w.random
    return json.dumps({
        "time": f"{w.year}-{w.month + 1:02d}-{w.day:02d}T{w.clock}Z", "level": r.choice(_LEVELS).lower(),
        "host": w.pick(_HOSTS), "user": r.choice(_USERS), "id": r.randrange(1 << 20),
        "message": w.sentence(), "duration": round(r.random() * 9, 3), "ok": r.random() < 0.9,
    })  # fmt: skip


def _csv(w: _World) -> str:
    r = w.random
    return f'{r.randrange(100000)},{w.pick(w.names).title()},"{w.sentence()}",{w.year}-{w.month + 1:02d}-{w.day:02d},{r.random() * 1000:.2f},{r.choice(["yes", "no"])}'


_LINES: tuple[Callable[[_World], str], ...] = (
    _syslog, _access, _server, _weekday, _compact, _json, _csv, _World.url,
)  # fmt: skip


def logs(size: int, seed: int) -> Iterator[bytes]:
    """Pieces of log, table and list, some ``size`` bytes together."""
    made = 0
    while made < size:
        seed += 1
        world = _World(seed)
        line = _LINES[seed % len(_LINES)]
        lines = []
        for _ in range(world.random.randint(40, 160)):
            world.tick()
            lines.append(line(world))
        piece = ("\n".join(lines) + "\n").encode()
        made += len(piece)
        yield piece


def _markup(text: str, r: random.Random) -> str:
    """Plain paragraphs as wiki text."""
    names = re.compile(r"\b(?:[A-Z][a-z]+ )*[A-Z][a-z]+\b")

    def link(match: re.Match[str]) -> str:
        name = match.group()
        chance = r.random()
        if chance < 0.2:
            return f"[[{name}]]"
        if chance < 0.25:
            return f"[[{name} (disambiguation)|{name}]]"
        return name

    out = []
    for paragraph in text.split("\n"):
        stripped = paragraph.strip(" =")
        if 0 < len(stripped) < 60 and not stripped.endswith("."):
            out.append(f"== {stripped} ==")
        elif stripped:
            body = names.sub(link, stripped).replace('"', "&quot;")
            if r.random() < 0.25:
                year = r.randint(1950, 2016)
                body += (
                    f"&lt;ref&gt;{{{{cite {r.choice(['web', 'book', 'news', 'journal'])}|url=http://www."
                    f"{r.choice(_NOUNS)}.{r.choice(_DOMAINS)}/{r.randrange(9999)}|title={stripped[:40]}"
                    f"|author={r.choice(_USERS).title()}|year={year}|accessdate={year + 1}-0{r.randint(1, 9)}-1{r.randint(0, 9)}"
                    "}}&lt;/ref&gt;"
                )
            out.append(("* " if r.random() < 0.15 else "") + body)
    return "\n".join(out)


def wiki(articles: Iterable[bytes], size: int, seed: int) -> Iterator[bytes]:
    """Articles as pages of a MediaWiki XML export, some ``size`` bytes together."""
    r = random.Random(seed)
    made = 0
    for number, article in enumerate(articles):
        if made >= size:
            return
        text = article.decode("utf-8", "replace")[: r.randint(3000, 20000)]
        title = text.split("\n")[0].strip(" =#*")[:50]
        body = _markup(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"), r)
        date = f"20{r.randint(2, 16):02d}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}T{r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}Z"
        piece = (
            f"  <page>\n    <title>{title}</title>\n    <ns>0</ns>\n    <id>{number + 600}</id>\n"
            f"    <revision>\n      <id>{r.randrange(10**9)}</id>\n      <parentid>{r.randrange(10**9)}</parentid>\n"
            f"      <timestamp>{date}</timestamp>\n      <contributor>\n        <username>{r.choice(_USERS).title()}</username>\n"
            f"        <id>{r.randrange(10**7)}</id>\n      </contributor>\n      <comment>/* {r.choice(_NOUNS).title()} */ fix</comment>\n"
            "      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
            f'      <text xml:space="preserve">{{{{Infobox {r.choice(_NOUNS)}\n| name = {title}\n| image = {title}.jpg\n| caption = \n}}}}\n'
            f"'''{title}''' {body}\n\n==References==\n{{{{Reflist}}}}\n\n[[Category:{title}]]\n[[Category:{r.choice(_NOUNS).title()}s]]\n</text>\n"
            f"      <sha1>{''.join(r.choices('0123456789abcdefghijklmnopqrstuvwxyz', k=31))}</sha1>\n    </revision>\n  </page>\n"
        ).encode()
        made += len(piece)
        yield piece
