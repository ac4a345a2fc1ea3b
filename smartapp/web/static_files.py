"""The app's own style and scripts, held in memory, as they are and compressed.

A page names each by an address with the digest of its bytes, so that a browser keeps it for a year and never
asks again; a new version of the app has new addresses. At an address without the digest, or with another, the
file is looked up again by its ETag.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, request

from smartapp.web.access import Open, needs
from smartapp.web.compression import takes_gzip

ENDPOINT = "static"
_FOLDER = Path(__file__).parent.parent / "static"
_NAMED_BY_DIGEST = "public, max-age=31536000, immutable"
_ASKED_AGAIN = "public, no-cache"


@dataclass(frozen=True)
class _File:
    mimetype: str
    plain: bytes
    small: bytes
    digest: str


def register(app: Flask) -> None:
    """`url_for("static", filename=...)` names the digest; the endpoint answers with the file."""
    app.add_url_rule("/static/<path:filename>", ENDPOINT, _file)
    app.url_defaults(_with_digest)
    _files()


def _with_digest(endpoint: str, values: dict[str, Any]) -> None:
    if endpoint == ENDPOINT and (file := _files().get(values.get("filename", ""))) is not None:
        values["v"] = file.digest


@needs(Open.PUBLIC)
def _file(filename: str) -> Response:
    file = _files().get(filename)
    if file is None:
        abort(404)
    small = takes_gzip()
    response = Response(file.small if small else file.plain, mimetype=file.mimetype)
    if small:
        response.headers["Content-Encoding"] = "gzip"
    response.vary.add("Accept-Encoding")
    # Two sets of bytes are two entities: each has an ETag of its own.
    response.set_etag(f"{file.digest}-gzip" if small else file.digest)
    named = request.args.get("v") == file.digest
    response.headers["Cache-Control"] = _NAMED_BY_DIGEST if named else _ASKED_AGAIN
    response.make_conditional(request)
    return response


@cache
def _files() -> dict[str, _File]:
    paths = (path for path in _FOLDER.rglob("*") if path.is_file())
    return {path.relative_to(_FOLDER).as_posix(): _read(path) for path in paths}


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _File(kind, plain, gzip.compress(plain, 9, mtime=0), hashlib.sha256(plain).hexdigest()[:16])
