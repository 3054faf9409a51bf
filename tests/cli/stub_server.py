"""A small server that answers as Slalom does, for the tests of the commands that ask one.

Owns the canned answers and a record of what was asked. Started by the `stub` fixture.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CARD = {
    "id": "slalom-mini",
    "object": "model",
    "slalom": {
        "aliases": ["completion", "chat"],
        "state": "loading",
        "progress": 0.42,
        "waiting": 3,
        "running": 1,
        "bytes": 5 << 20,
        "replicas": [],
    },
}
ESTIMATE = {
    "object": "estimate",
    "model": "slalom-mini",
    "task": "completion",
    "replica": "slalom-mini#0",
    "would_hold": False,
    "chance": 0.25,
    "predicted_start_ms": 10.0,
    "predicted_ttft_ms": 50.4,
    "predicted_e2e_ms": 700.0,
    "targets": {"ttft_ms": 200.0, "tpot_ms": None, "e2e_ms": 500.0},
    "reason": "The end is expected after 700 ms, 200 ms later than its target.",
}


class StubServer:
    """Serves canned answers on a free port until it is closed."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.cards: list[dict[str, Any]] = [CARD]
        #: Pieces of a streamed answer; an exception's text instead of a piece is an error event.
        self.pieces: list[str] = ["one ", "two"]
        self.error: str | None = None
        #: Whether the stream stops before its end, and the status of a refusal.
        self.cut = False
        self.status = 200
        #: Path -> status and document of an answer of its own.
        self.documents: dict[str, tuple[int, dict[str, Any]]] = {}
        stub = self

        class Answers(BaseHTTPRequestHandler):
            """Hands requests to the stub."""

            def do_GET(self) -> None:
                stub.answer(self, {})

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                stub.answer(self, json.loads(self.rfile.read(length)))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, to: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in to.headers.items()}
        self.asked.append((to.path, body, headers))
        if to.path in self.documents:
            status, document = self.documents[to.path]
            self._send(to, status, json.dumps(document).encode())
        elif self.status != 200:
            error = {"message": "No such thing.", "code": "refused"}
            self._send(to, self.status, json.dumps({"error": error}).encode())
        elif to.command == "GET":
            self._send(to, 200, json.dumps({"object": "list", "data": self.cards}).encode())
        elif to.path == "/v1/estimate":
            self._send(to, 200, json.dumps(ESTIMATE).encode())
        else:
            chat = "chat" in to.path
            self._send(to, 200, b"".join(self._events(chat=chat)), "text/event-stream")

    def _events(self, *, chat: bool) -> list[bytes]:
        events: list[Any] = []
        for piece in self.pieces:
            choice = {"delta": {"content": piece}} if chat else {"text": piece}
            events.append({"choices": [choice]})
        if self.error is not None:
            events.append({"error": {"message": self.error, "code": "engine_crashed"}})
        events.append({"choices": [], "usage": {"completion_tokens": len(self.pieces)}})
        lines = [b": waiting\n\n"]
        lines += [f"data: {json.dumps(event)}\n\n".encode() for event in events]
        return lines if self.cut else [*lines, b"data: [DONE]\n\n"]

    @staticmethod
    def _send(
        to: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json"
    ) -> None:
        to.send_response(status)
        to.send_header("content-type", kind)
        to.send_header("content-length", str(len(body)))
        to.send_header("x-request-id", "req-1")
        to.send_header("x-slalom-replica", "slalom-mini#0")
        to.send_header("x-slalom-queue-ms", "12.5")
        to.end_headers()
        to.wfile.write(body)
