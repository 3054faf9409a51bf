"""Files and batches as clients see them: OpenAI's objects.

Owns the shape of these documents and of their lists. Pure. Called by `routes`.
"""

from collections.abc import Sequence
from typing import Any

from slalom.batches.objects import Batch, StoredFile


def file_document(file: StoredFile) -> dict[str, Any]:
    """A file."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.created_s,
        "expires_at": file.expires_s,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_document(batch: Batch) -> dict[str, Any]:
    """A batch; its files are named once it has ended and they are complete."""
    faults = [
        {"code": fault.code, "line": fault.line, "message": fault.message, "param": fault.param}
        for fault in batch.faults
    ]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": batch.input_file,
        "completion_window": batch.window,
        "status": batch.status.value,
        "output_file_id": batch.output_file if batch.ended and batch.output_bytes else None,
        "error_file_id": batch.error_file if batch.ended and batch.error_bytes else None,
        "created_at": batch.created_s,
        "in_progress_at": batch.in_progress_s,
        "expires_at": batch.expires_s,
        "finalizing_at": batch.finalizing_s,
        "completed_at": batch.completed_s,
        "failed_at": batch.failed_s,
        "expired_at": batch.expired_s,
        "cancelling_at": batch.cancelling_s,
        "cancelled_at": batch.cancelled_s,
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "usage": {
            "input_tokens": batch.usage.input_tokens,
            "input_tokens_details": {"cached_tokens": batch.usage.cached_tokens},
            "output_tokens": batch.usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": batch.usage.reasoning_tokens},
            "total_tokens": batch.usage.input_tokens + batch.usage.output_tokens,
        },
        "metadata": batch.metadata,
    }


def list_document(items: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """A page of a list."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": more,
    }
