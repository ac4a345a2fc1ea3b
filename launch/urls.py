"""URLs of EHRs: one normal form to compare, and the question whether an address lies under a base.

What is doubtful is refused, never repaired: user info, fragments, dot segments in any encoding, control
characters, backslashes, a trailing dot on the host. Comparing is done on the normal form only; sending is
done with the bytes as received.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

_DEFAULT_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"[a-z0-9]([a-z0-9\-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9\-]*[a-z0-9])?)*")
_IPV6 = re.compile(r"[0-9a-f:.]+")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\U0010ffff\\<>\"{}^`]")
_LONGEST = 8192


class UnsafeUrl(ValueError):
    """The text is not a URL this app compares or opens. The message names the fault, never the URL."""


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute http(s) URL in normal form: scheme and host in lower case, default port left out."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> str:
        """Scheme, host and port, the port only where it is not the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def base(self) -> str:
        """Origin and path, without query and without a trailing slash."""
        return self.origin + self.path.rstrip("/")


def parse_url(text: str) -> Url:
    """The URL in normal form. Raises UnsafeUrl for anything that two parsers might read differently."""
    if not text or len(text) > _LONGEST:
        raise UnsafeUrl("empty or too long")
    if _UNSAFE.search(text):
        raise UnsafeUrl("a character that does not belong in a URL")
    if "#" in text:
        raise UnsafeUrl("a fragment")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UnsafeUrl("not a URL") from None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise UnsafeUrl("neither http nor https")
    if "@" in parts.netloc:
        raise UnsafeUrl("user info")
    host = (parts.hostname or "").lower()
    valid_host = _IPV6.fullmatch(host) if parts.netloc.startswith("[") else _HOST.fullmatch(host)
    if not valid_host:
        raise UnsafeUrl("a host name of unusual form")
    if parts.netloc.endswith(":") or port == 0:
        raise UnsafeUrl("an empty port")
    _refuse_dot_segments(parts.path)
    return Url(scheme, host, port or _DEFAULT_PORTS[scheme], parts.path, parts.query)


def parse_base(text: str) -> Url:
    """A FHIR base URL: no query, no empty path segment; one trailing slash is as good as none."""
    url = parse_url(text)
    if "?" in text:
        raise UnsafeUrl("a query")
    if "//" in url.path:
        raise UnsafeUrl("an empty path segment")
    return Url(url.scheme, url.host, url.port, url.path.rstrip("/"), "")


def join_url(base: str, target: str) -> str:
    """`target` as a browser would read it at `base`. Raises UnsafeUrl where it cannot be read at all."""
    try:
        return urljoin(base, target)
    except ValueError:
        raise UnsafeUrl("not a URL") from None


def is_under(url: Url, base: Url) -> bool:
    """Whether `url` is the base itself or below it: same origin, and the path continues after a slash."""
    if url.origin != base.origin:
        return False
    path = base.path.rstrip("/")
    return url.path == path or url.path.startswith(path + "/")


def _refuse_dot_segments(path: str) -> None:
    """Dot segments, encoded once, twice or thrice, and encoded slashes around them."""
    decoded = path
    for _ in range(3):
        decoded = unquote(decoded)
    if _UNSAFE.search(decoded.replace(" ", "")):
        raise UnsafeUrl("an encoded character that does not belong in a path")
    if any(segment in {".", ".."} for segment in re.split(r"[/\\;]", decoded)):
        raise UnsafeUrl("a dot segment")
