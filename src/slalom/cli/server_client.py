"""A small blocking client of a running server, for the commands that try it out.

Owns the HTTP calls, the reading of a stream, and turning refusals into messages. It is no
library: programs use the openai SDK.
"""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from slalom.errors import SlalomError
from slalom.units import format_bytes

_CONNECT_TIMEOUT_S = 5.0
#: A server that loads a model sends a comment every few seconds; this long a silence is an end.
_SILENCE_TIMEOUT_S = 120.0
_LINE_MAX = 1 << 20
_DOCUMENT_MAX = 16 << 20


class ServerError(SlalomError):
    """The server refused, failed, or is no OpenAI-compatible server."""

    code = "server_error"


class RefusedError(ServerError):
    """An OpenAI-compatible server answered with an error of its own."""

    code = "refused"


class UnreachableError(ServerError):
    """Nobody answers at the address."""

    code = "server_unreachable"


@dataclass(slots=True)
class Answer:
    """A streamed answer: its headers, its text as it comes, and its times."""

    headers: Mapping[str, str]
    pieces: Iterator[str]
    started_s: float
    first_token_s: float = 0.0
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds since the request was sent."""
        return time.monotonic() - self.started_s


class ServerClient:
    """Talks to one server.

    Args:
        url: Base URL, with or without ``/v1``.
        key: API key, or None.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ServerError(f"{url!r} is not an address: write http://HOST:PORT")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
        self._parts = urlsplit(self.url)
        self._key = key

    def __repr__(self) -> str:
        return f"<ServerClient {self.url}>"

    def models(self) -> list[dict[str, Any]]:
        """The server's models, with Slalom's state where it is one.

        Raises:
            UnreachableError: Nobody answers.
            ServerError: It refuses, or does not speak the OpenAI API.
        """
        connection, response = self._send("GET", "/v1/models", None, {}, _CONNECT_TIMEOUT_S)
        document = self._document(connection, response)
        data = document.get("data")
        if response.status != http.HTTPStatus.OK and "error" in document:
            raise self._refusal(response.status, document)
        if not isinstance(data, list):
            raise ServerError(f"{self.url} answers, but not as an OpenAI-compatible server does")
        return [model for model in data if isinstance(model, dict)]

    def get(self, path: str) -> dict[str, Any]:
        """The document that stands there.

        Raises:
            ServerError: It refuses.
        """
        connection, response = self._send("GET", path, None, {}, _SILENCE_TIMEOUT_S)
        document = self._document(connection, response)
        if response.status != http.HTTPStatus.OK:
            raise self._refusal(response.status, document)
        return document

    def post(
        self,
        path: str,
        body: dict[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        accepts: int = http.HTTPStatus.OK,
    ) -> dict[str, Any]:
        """Send a request and return the document that answers it.

        Args:
            path: Behind the base URL.
            body: Sent as JSON.
            headers: Beside those of every request.
            accepts: The status that is no refusal.

        Raises:
            ServerError: It refuses.
        """
        connection, response = self._send("POST", path, body, headers or {}, _SILENCE_TIMEOUT_S)
        document = self._document(connection, response)
        if response.status != accepts:
            raise self._refusal(response.status, document)
        return document

    def stream(
        self, path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and hand out its text as it comes.

        Raises:
            ServerError: It refuses; also raised while the pieces are read.
        """
        started_s = time.monotonic()
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        connection, response = self._send("POST", path, body, headers or {}, _SILENCE_TIMEOUT_S)
        if response.status != http.HTTPStatus.OK:
            raise self._refusal(response.status, self._document(connection, response))
        lines = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(lines, iter(()), started_s)
        answer.pieces = self._pieces(connection, response, answer)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        kind = (
            http.client.HTTPSConnection
            if self._parts.scheme == "https"
            else http.client.HTTPConnection
        )
        connection = kind(str(self._parts.hostname), self._parts.port, timeout=timeout_s)
        lines = {"accept": "application/json", **headers}
        if self._key:
            lines["authorization"] = f"Bearer {self._key}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            lines["content-type"] = "application/json"
        try:
            connection.request(method, self._parts.path + path, data, lines)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableError(
                f"no server answers at {self.url} ({_reason(error)}): start one "
                "with 'slalom serve', or name it with --url"
            ) from None

    def _document(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> dict[str, Any]:
        """A whole JSON body; empty if it is none."""
        try:
            return _json(response.read(_DOCUMENT_MAX))
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{self.url}: the connection was lost ({_reason(error)})") from None
        finally:
            response.close()
            connection.close()

    def _pieces(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        answer: Answer,
    ) -> Iterator[str]:
        complete = False
        try:
            # Read on to the end: whoever leaves at [DONE] may count as gone before it.
            for line in iter(lambda: response.readline(_LINE_MAX), b""):
                data = line[5:].strip() if line.startswith(b"data:") else b""
                complete = complete or data == b"[DONE]"
                if data and not complete:
                    yield from self._texts(_json(data), answer)
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{self.url}: the connection was lost ({_reason(error)})") from None
        finally:
            response.close()
            connection.close()
        if not complete:
            raise ServerError(f"{self.url} ended the answer before it was complete; try again")

    def _texts(self, event: dict[str, Any], answer: Answer) -> Iterator[str]:
        """The pieces of text in one event; notes usage and the time of the first token."""
        if "error" in event:
            raise self._refusal(0, event)
        answer.usage = event.get("usage") or answer.usage
        for choice in event.get("choices") or []:
            text = choice.get("text") or (choice.get("delta") or {}).get("content")
            if text:
                answer.first_token_s = answer.first_token_s or answer.seconds
                yield str(text)

    def _refusal(self, status: int, document: dict[str, Any]) -> RefusedError:
        detail = document.get("error")
        if not isinstance(detail, dict):
            detail = {"message": str(detail or "it gives no reason")}
        hint = ""
        if status == http.HTTPStatus.UNAUTHORIZED:
            hint = " Give the key in SLALOM_API_KEY."
        what = f"answered {status}" if status else "could not finish"
        message = f"{self.url} {what}: {detail.get('message')}{_held(detail)}{hint}"
        return RefusedError(message, code=str(detail.get("code") or RefusedError.code))


def _held(detail: Mapping[str, Any]) -> str:
    """Who holds the memory that was asked for, where a refusal says it."""
    holders = [
        f"{one.get('replica_id')} {format_bytes(int(one.get('held_bytes') or 0))}"
        for one in detail.get("holders") or []
        if isinstance(one, dict)
    ]
    return f" Memory is held by {', '.join(holders)}." if holders else ""


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _json(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
