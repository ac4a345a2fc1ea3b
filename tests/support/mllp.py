"""An interface engine that acknowledges, refuses, answers of something else, hangs, or drops the line."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

BEGIN, END = b"\x0b", b"\x1c\r"


@dataclass
class Listener:
    """`behaves`, from now on: accept, reject, error, stranger, hang, drop, garbage or deaf."""

    port: int = 0
    behaves: str = "accept"
    received: list[bytes] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)
    context: ssl.SSLContext | None = None
    """Of one that speaks TLS."""

    def answer_to(self, message: bytes) -> bytes:
        control = message.split(b"\r")[0].split(b"|")[9]
        code = {"accept": b"AA", "reject": b"AR", "error": b"AE", "stranger": b"AA"}[self.behaves]
        about = b"SOMETHING-ELSE" if self.behaves == "stranger" else control
        said = b"|no such patient" if self.behaves in ("reject", "error") else b""
        head = b"MSH|^~\\&|ENGINE||SMARTRM||20260401||ACK^P03|A1|P|2.5.1\r"
        return BEGIN + head + b"MSA|" + code + b"|" + about + said + b"\r" + END

    def serve(self, plain: socket.socket) -> None:
        try:
            connection = plain if self.context is None else self.context.wrap_socket(plain, server_side=True)
        except OSError:  # the other side did not like our certificate
            plain.close()
            return
        with connection:
            if self.behaves == "deaf":
                return
            whole = b""
            while END not in whole:
                got = connection.recv(4096)
                if not got:
                    return
                whole += got
            message = whole.partition(END)[0].lstrip(BEGIN)
            self.received.append(message)
            if self.behaves == "hang":
                self.let_go.wait(30)
            elif self.behaves == "garbage":
                connection.sendall(BEGIN + b"not a message at all" + END)
            elif self.behaves != "drop":
                connection.sendall(self.answer_to(message))


@contextmanager
def listening(behaves: str = "accept", context: ssl.SSLContext | None = None) -> Iterator[Listener]:
    """A listener on this machine, until the end of the block. `context`: it speaks TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = Listener(server.getsockname()[1], behaves, context=context)

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=listener.serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            listener.let_go.set()
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join(10)
