"""The routes of files and batches, in OpenAI's words: a protocol without inference of its own.

Owns the reading of their parameters and who sees what: a key sees what it made, and nothing else.
Mounted by `app`; what is stored is the desk's.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from starlette.responses import FileResponse, Response

from slalom.batches.desk import Desk, new_id
from slalom.batches.files import UPLOADED, WRITTEN
from slalom.batches.ledger import Ledger
from slalom.batches.objects import ENDED, Batch, Page, Status, StoredFile
from slalom.batches.params import WINDOW
from slalom.errors import OverloadedError, RequestError
from slalom.gateway.batches.documents import batch_document, file_document, list_document
from slalom.gateway.batches.upload import Form, receive_form
from slalom.gateway.protocols.frame import SideAsk, SideRoute, WireProtocol
from slalom.gateway.resolution import CHAT_PATH, COMPLETIONS_PATH, EMBEDDINGS_PATH

#: Inference routes whose requests may stand in a batch: any that answers JSON and needs no stream.
ENDPOINTS = (CHAT_PATH, COMPLETIONS_PATH, EMBEDDINGS_PATH, "/v1/responses")
#: How long a file may be kept, seconds.
_KEEP_S_MIN, _KEEP_S_MAX = 3600, 30 * 86_400
_METADATA_MAX, _NAME_CHARS_MAX, _VALUE_CHARS_MAX = 16, 64, 512
#: Uploads at a time, over all clients.
_UPLOADS_MAX = 16


def protocol(desk: Desk) -> WireProtocol:
    """The table."""
    routes = _Routes(desk)
    return WireProtocol(
        "files-and-batches",
        {},
        side_routes=(
            SideRoute("/v1/files", routes.upload, ("POST",)),
            SideRoute("/v1/files", routes.files),
            SideRoute("/v1/files/{id}", routes.file),
            SideRoute("/v1/files/{id}", routes.delete, ("DELETE",)),
            SideRoute("/v1/files/{id}/content", routes.content),
            SideRoute("/v1/batches", routes.create, ("POST",)),
            SideRoute("/v1/batches", routes.batches),
            SideRoute("/v1/batches/{id}", routes.batch),
            SideRoute("/v1/batches/{id}/cancel", routes.cancel, ("POST",)),
        ),
    )


class _Routes:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._uploads = 0

    async def upload(self, ask: SideAsk) -> Response:
        """Take a file."""
        owner, now_s = _owner(ask), self._desk.now_s()
        if self._uploads >= _UPLOADS_MAX:
            raise OverloadedError(f"There are {_UPLOADS_MAX} uploads under way.", retry_after_s=2)
        self._uploads += 1
        file_id = new_id("file-")
        try:
            path = await self._desk.ask(lambda stored: stored.files.place_for(owner, file_id))
            try:
                form = await receive_form(ask.request, self._desk, path)
                file = StoredFile(
                    id=file_id,
                    owner=owner,
                    purpose=_purpose(form),
                    filename=form.filename or "file",
                    size_bytes=form.size_bytes,
                    created_s=now_s,
                    expires_s=now_s + self._kept_s(_form_expiry(form), "expires_after"),
                )
                await self._desk.ask(lambda stored: stored.files.take_upload(file))
            finally:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        finally:
            self._uploads -= 1
        return _json(file_document(file))

    async def files(self, ask: SideAsk) -> Response:
        """The key's files."""
        owner, page = _owner(ask), _page(ask, 10_000, 10_000)
        purpose = ask.request.query_params.get("purpose", "")
        found, more = await self._desk.ask(lambda stored: stored.files.page(owner, page, purpose))
        return _json(list_document([file_document(file) for file in found], more=more))

    async def file(self, ask: SideAsk) -> Response:
        """One file."""
        return _json(file_document(await self._file(ask)))

    async def content(self, ask: SideAsk) -> Response:
        """What is in it."""
        file = await self._file(ask)
        return FileResponse(self._desk.content(file.id), media_type="application/octet-stream")

    async def delete(self, ask: SideAsk) -> Response:
        """Delete a file that no unfinished batch reads."""
        owner, file_id = _owner(ask), ask.request.path_params["id"]
        await self._desk.ask(
            lambda stored: stored.files.delete(owner, file_id, stored.ledger.inputs())
        )
        return _json({"id": file_id, "object": "file", "deleted": True})

    async def create(self, ask: SideAsk) -> Response:
        """Begin a batch."""
        body, now_s, params = await ask.document(), self._desk.now_s(), self._desk.params
        batch = Batch(
            id=new_id("batch_"),
            owner=_owner(ask),
            endpoint=_one_of(body, "endpoint", ENDPOINTS),
            input_file=_text(body, "input_file_id"),
            window=_one_of(body, "completion_window", (WINDOW,)),
            output_file=new_id("file-"),
            error_file=new_id("file-"),
            created_s=now_s,
            expires_s=now_s + params.window_s,
            metadata=_metadata(body.get("metadata")),
            keep_s=self._kept_s(body.get("output_expires_after"), "output_expires_after"),
        )
        await self._desk.ask(lambda stored: stored.ledger.add(batch))
        self._desk.changed()
        return _json(batch_document(batch))

    async def batches(self, ask: SideAsk) -> Response:
        """The key's batches."""
        owner, page = _owner(ask), _page(ask, 20, 100)
        found, more = await self._desk.ask(lambda stored: stored.ledger.page(owner, page))
        return _json(list_document([batch_document(batch) for batch in found], more=more))

    async def batch(self, ask: SideAsk) -> Response:
        """One batch."""
        owner, batch_id = _owner(ask), ask.request.path_params["id"]
        found = await self._desk.ask(lambda stored: stored.ledger.find(owner, batch_id))
        return _json(batch_document(found))

    async def cancel(self, ask: SideAsk) -> Response:
        """Have a batch ended."""
        owner, batch_id = _owner(ask), ask.request.path_params["id"]
        now_s = self._desk.now_s()
        changed = await self._desk.ask(
            lambda stored: _cancelling(stored.ledger, owner, batch_id, now_s)
        )
        self._desk.changed()
        return _json(batch_document(changed))

    async def _file(self, ask: SideAsk) -> StoredFile:
        owner, file_id = _owner(ask), ask.request.path_params["id"]
        return await self._desk.ask(lambda stored: stored.files.find(owner, file_id))

    def _kept_s(self, asked: object, param: str) -> int:
        """How long a file is kept: as asked, but never longer than the server keeps any."""
        if asked is None:
            return self._desk.params.keep_s
        seconds = asked.get("seconds") if isinstance(asked, dict) else None
        anchor = asked.get("anchor") if isinstance(asked, dict) else None
        if anchor != "created_at":
            raise RequestError(f"{param}.anchor must be 'created_at'.", param=f"{param}.anchor")
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int)
            or not _KEEP_S_MIN <= seconds <= _KEEP_S_MAX
        ):
            raise RequestError(
                f"{param}.seconds must be an integer from {_KEEP_S_MIN} to {_KEEP_S_MAX}.",
                param=f"{param}.seconds",
            )
        return min(seconds, self._desk.params.keep_s)


def _cancelling(ledger: Ledger, owner: str, batch_id: str, now_s: int) -> Batch:
    found = ledger.find(owner, batch_id)
    if found.status in {*ENDED, Status.FINALIZING}:
        raise RequestError(
            f"Batch {batch_id} cannot be cancelled any more: it is {found.status.value}.",
            code="batch_ended",
            param="batch_id",
        )
    return ledger.change(
        batch_id,
        lambda batch: (
            batch
            if batch.status is Status.CANCELLING
            else msgspec.structs.replace(batch, status=Status.CANCELLING, cancelling_s=now_s)
        ),
    )


def _owner(ask: SideAsk) -> str:
    return ask.key.name if ask.key is not None else ""


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")


def _purpose(form: Form) -> str:
    purpose = form.fields.get("purpose", "")
    if purpose != UPLOADED:
        raise RequestError(
            f"Files are taken for the purpose {UPLOADED!r}, not {purpose[:40]!a}; batches "
            f"themselves write {WRITTEN!r}.",
            param="purpose",
        )
    return purpose


def _form_expiry(form: Form) -> dict[str, Any] | None:
    """The two fields that forms write with brackets."""
    anchor = form.fields.get("expires_after[anchor]")
    seconds = form.fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    is_number = seconds is not None and seconds.isascii() and seconds.isdecimal()
    return {
        "anchor": anchor,
        "seconds": int(seconds[:12]) if seconds is not None and is_number else None,
    }


def _page(ask: SideAsk, default: int, most: int) -> Page:
    query = ask.request.query_params
    limit = query.get("limit", str(default))
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= most):
        raise RequestError(f"limit must be an integer from 1 to {most}.", param="limit")
    order = query.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise RequestError("order must be 'asc' or 'desc'.", param="order")
    return Page(query.get("after", ""), int(limit), newest_first=order == "desc")


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise RequestError(f"{name} must be a text.", param=name)
    return value


def _one_of(body: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = _text(body, name)
    if value not in known:
        raise RequestError(f"{name} must be one of: {', '.join(known)}.", param=name)
    return value


def _metadata(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if (
        not isinstance(value, dict)
        or len(value) > _METADATA_MAX
        or not all(
            isinstance(text, str) and len(text) <= _VALUE_CHARS_MAX and len(name) <= _NAME_CHARS_MAX
            for name, text in value.items()
        )
    ):
        raise RequestError(
            f"metadata must be at most {_METADATA_MAX} pairs of texts, names up to "
            f"{_NAME_CHARS_MAX} and values up to {_VALUE_CHARS_MAX} characters long.",
            param="metadata",
        )
    return value
