"""Answers leave compressed, where that tells nobody anything.

How long a compressed answer is depends on all that is in it. Whoever can have an answer asked for that holds
text of theirs beside what they are after, and sees its length on the wire, learns of it bit by bit (BREACH).
So an answer that another site had asked for leaves as it is: browsers say so in `Sec-Fetch-Site`, which no
page can forge. What opens the app from the EHR is such an answer too; it is short, the chart comes after it.
For browsers that do not say, the tokens of forms are written anew in each answer (`form_tokens`).
"""

from __future__ import annotations

import gzip

from flask import Flask, Response, request

LEAST_BYTES = 500
"""Below, nothing is won: such an answer fits into one packet either way."""
_LEVEL = 6
_OWN = frozenset({"same-origin", "none"})
_KINDS = ("text/", "application/json", "application/fhir+json", "application/xhtml+xml", "image/svg+xml")


def register(app: Flask) -> None:
    """Every answer of some length that is text, as the browser takes it and nobody else had it asked for."""
    app.after_request(_compress)


def takes_gzip() -> bool:
    """Whether whoever asks says that it takes gzip."""
    return request.accept_encodings["gzip"] > 0


def _compress(response: Response) -> Response:
    kind = response.mimetype or ""
    if "Content-Encoding" in response.headers or response.is_streamed or not kind.startswith(_KINDS):
        return response
    response.vary.update(("Accept-Encoding", "Sec-Fetch-Site"))
    if request.headers.get("Sec-Fetch-Site", "none") not in _OWN or not takes_gzip():
        return response
    plain = response.get_data()
    if len(plain) >= LEAST_BYTES:
        response.set_data(gzip.compress(plain, _LEVEL, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response
