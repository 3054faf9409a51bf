"""Reading an upload: a form whose file goes to the disk as it comes, within bounds.

Owns the form's fields and the writing of the content, so that neither a large file nor a slow
client costs memory. What is broken off leaves nothing behind. Called by `routes`.
"""

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from slalom.batches.desk import Desk, storage_error
from slalom.batches.files import create_private
from slalom.errors import RequestError
from slalom.gateway.request_body import ClientGoneError
from slalom.units import MIB

#: The fields beside the file; others are left out.
FIELDS = frozenset(("purpose", "expires_after[anchor]", "expires_after[seconds]"))
#: Content is written in pieces of about this size, and the room for it looked at, bytes.
_PIECE_BYTES = MIB
#: Parts of a form, bytes of a field, characters of a file's name.
_PARTS_MAX, _FIELD_BYTES_MAX, _NAME_CHARS_MAX = 16, 1024, 255
#: What a form takes besides its file, bytes.
_FRAME_BYTES_MAX = 64 * 1024


@dataclass(slots=True)
class Form:
    """What a form said."""

    fields: dict[str, str] = field(default_factory=dict)
    #: Name of the file as the client calls it; None where no file came.
    filename: str | None = None
    size_bytes: int = 0


async def receive_form(request: Request, desk: Desk, path: Path) -> Form:
    """Read a form; its field `file` is written, and synced, to a path.

    Raises:
        RequestError: It is no form, or larger than allowed.
        StorageError: There is no room on the disk.
        ClientGoneError: The client left.
    """
    reading = _Reading(_boundary(request), desk.params.file_bytes_max)
    writing = _Writing(desk, path)
    try:
        async for chunk in request.stream():
            reading.feed(chunk)
            if len(reading.content) >= _PIECE_BYTES:
                await writing.write(reading.take())
        reading.close()
        await writing.write(reading.take())
        await writing.sync()
    except ClientDisconnect:
        raise ClientGoneError from None
    except OSError as problem:
        raise storage_error(problem, desk.params.folder) from problem
    finally:
        writing.close()
    return reading.form


class _Reading:
    """The form's parts, from chunks cut anywhere."""

    def __init__(self, boundary: bytes, file_bytes_max: int) -> None:
        self.form = Form()
        self.content = bytearray()
        self._file_bytes_max = file_bytes_max
        self._received_bytes = 0
        self._parts = 0
        self._over = False
        self._name = ""
        self._is_file = False
        self._header = bytearray()
        self._value = bytearray()
        self._field = bytearray()
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._received_bytes += len(chunk)
        if self._received_bytes > self._file_bytes_max + _FRAME_BYTES_MAX:
            raise self._too_large()
        try:
            self._parser.write(chunk)
        except FormParserError as problem:
            raise RequestError(
                f"The body is not a proper form ({type(problem).__name__}).", code="invalid_form"
            ) from None

    def take(self) -> bytes:
        """The content that has come since."""
        taken = bytes(self.content)
        self.content.clear()
        return taken

    def close(self) -> None:
        """Judge the whole."""
        if not self._over:
            raise RequestError("The form ends before its last boundary.", code="invalid_form")
        if self.form.filename is None:
            raise RequestError("The form has no field 'file' with a file.", param="file")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _PARTS_MAX:
            raise RequestError(f"The form has more than {_PARTS_MAX} parts.", code="invalid_form")
        self._disposition = b""
        self._field.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._is_file = self._name == "file" and filename is not None
        if self._is_file and filename is not None:
            if self.form.filename is not None:
                raise RequestError("The form has more than one file.", param="file")
            name = filename.decode("utf-8", "replace")
            self.form.filename = name[:_NAME_CHARS_MAX] or "file"

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.form.size_bytes += end - start
            if self.form.size_bytes > self._file_bytes_max:
                raise self._too_large()
            self.content += data[start:end]
        elif self._name in FIELDS:
            self._field += data[start:end]
            if len(self._field) > _FIELD_BYTES_MAX:
                raise RequestError(f"The field {self._name!r} is too long.", param=self._name)

    def _on_part_end(self) -> None:
        if not self._is_file and self._name in FIELDS:
            self.form.fields[self._name] = self._field.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._over = True

    def _too_large(self) -> RequestError:
        return RequestError(
            f"The file is larger than {self._file_bytes_max} bytes (batches.max_file_mib): "
            "split it.",
            code="file_too_large",
            param="file",
        )


class _Writing:
    """The content on the disk; what is counted as incoming is given back at the end."""

    def __init__(self, desk: Desk, path: Path) -> None:
        self._desk = desk
        self._descriptor = create_private(path)
        self._counted_bytes = 0

    async def write(self, data: bytes) -> None:
        """Append, where there is room.

        Raises:
            StorageError: There is none.
        """
        if not data:
            return
        incoming_bytes = self._desk.incoming_bytes
        self._counted_bytes += len(data)
        self._desk.incoming_bytes += len(data)
        await self._desk.ask(
            lambda stored: stored.files.check_disk(len(data), incoming_bytes=incoming_bytes)
        )
        await asyncio.to_thread(_write_all, self._descriptor, data)

    async def sync(self) -> None:
        """Wait until the content has reached the disk."""
        await asyncio.to_thread(os.fsync, self._descriptor)

    def close(self) -> None:
        """Let go."""
        self._desk.incoming_bytes -= self._counted_bytes
        os.close(self._descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise RequestError(
            "Send the file as 'multipart/form-data', with the fields 'purpose' and 'file'.",
            code="unsupported_media_type",
        )
    return boundary
