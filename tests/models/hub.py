"""A Hugging Face hub of one repository on this machine, and its cache laid out by hand."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def lay_out_cache(cache: Path, repository: str, files: Mapping[str, bytes]) -> Path:
    """Write `files` as the library's cache would hold them; returns the snapshot folder."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    blobs, refs = folder / "blobs", folder / "refs"
    for path in (snapshot, blobs, refs):
        path.mkdir(parents=True, exist_ok=True)
    (refs / "main").write_text(COMMIT)
    for name, data in files.items():
        blob = blobs / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    return snapshot


@contextmanager
def hub(repository: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve `files` of `repository`; gives the address and a list of the paths asked for."""
    asked: list[str] = []

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(f"GET {self.path}")
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            asked.append(f"HEAD {self.path}")
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.split("?")[0]
            prefix = f"/{repository}/resolve/"
            if path == f"/api/models/{repository}/revision/main":
                siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
                listing = {"id": repository, "sha": COMMIT, "siblings": siblings}
                self._send(json.dumps(listing).encode(), "application/json", with_body=with_body)
            elif path.startswith(prefix) and path.removeprefix(prefix).split("/", 1)[1] in files:
                data = files[path.removeprefix(prefix).split("/", 1)[1]]
                self._send(data, "application/octet-stream", with_body=with_body)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, data: bytes, kind: str, *, with_body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
