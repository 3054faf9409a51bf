"""Ray Serve around our engine class: `python -m slalom.bench.ray_live.serve_program FILE`.

Owns the deployment, one application for each model directly behind Ray Serve's HTTP proxy, so that
no hop is added that Ray Serve does not need. Runs with the interpreter of the environment that has
Ray, never within ours. Started by `ways`.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from slalom.engines.http_engine import HttpEngine
from slalom.engines.llama_cpp import LlamaCppLauncher, LlamaCppOptions
from slalom.engines.protocol import Call, Reply
from slalom.errors import EngineError

_OBJECT_STORE_BYTES = 100_000_000


class Replica:
    """One engine behind Ray Serve: the class of a deployment. Its engine dies with its process.

    Args:
        name: Of the model.
        path: Of its file.
        options: Of its engine.
    """

    def __init__(self, name: str, path: str, options: dict[str, Any]) -> None:
        self._name = name
        self._launcher = LlamaCppLauncher(LlamaCppOptions(Path(path), **options), model_name=name)
        self.engine: HttpEngine | None = None

    async def reconfigure(self, _config: object) -> None:
        """Bring the engine up; Ray Serve waits for that before it sends anything."""
        if self.engine is None:
            self.engine = await self._launcher.launch(self._name, lambda _fraction: None)

    async def __call__(self, request: Request) -> Response:
        """Relay one request."""
        if self.engine is None:
            return Response(status_code=503)
        path = request.url.path.removeprefix(f"/{self._name}")
        if request.method == "GET":
            return Response(b"{}", media_type="application/json")
        try:
            reply = await self.engine.generate(Call(path, await request.body()))
        except EngineError as problem:
            return Response(str(problem), 502)
        return StreamingResponse(
            _relay(reply), status_code=reply.status, media_type=reply.content_type
        )


async def _relay(reply: Reply) -> AsyncIterator[bytes]:
    try:
        while piece := await reply.read():
            yield piece
    finally:
        await reply.close()


def _deploy(document: dict[str, Any]) -> str:
    """Start Ray and Ray Serve, and the models; gives the address."""
    import ray  # noqa: PLC0415 - only in its own environment
    from ray import serve  # noqa: PLC0415
    from ray.serve.schema import LoggingConfig  # noqa: PLC0415

    models: dict[str, Any] = document["models"]
    ray.init(
        address="local",
        # One for each replica, so that there are never more than there may be.
        num_cpus=document["replicas"] * len(models),
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=document["folder"],
    )
    serve.start(http_options={"host": "127.0.0.1", "port": document["port"]})
    replicas = document["replicas"]
    size: dict[str, Any] = {"num_replicas": replicas}
    if document["scaling"] is not None:
        span = {"min_replicas": 1, "max_replicas": replicas}
        size = {"autoscaling_config": {**span, **document["scaling"]}}
    for name, told in models.items():
        deployment = serve.deployment(
            name=name,
            max_ongoing_requests=document["places"],
            ray_actor_options={"num_cpus": 1},
            user_config={},
            logging_config=LoggingConfig(enable_access_log=False),
            **size,
        )(Replica)
        application = deployment.bind(name, told["model"], told["options"])
        serve.run(application, name=name, route_prefix=f"/{name}")
    return f"http://127.0.0.1:{document['port']}"


def main() -> None:
    """Serve until SIGTERM."""
    document = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # What Ray prints must not come before the one line that is asked for.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    url = _deploy(document)
    ended = asyncio.Event()

    async def serve_on() -> None:
        # After Ray, which takes the signal for itself.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        told.write(json.dumps({"url": url}) + "\n")
        told.flush()
        await ended.wait()

    asyncio.run(serve_on())
    import ray  # noqa: PLC0415
    from ray import serve  # noqa: PLC0415

    with contextlib.suppress(Exception):
        serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
