"""The protocols that clients speak: one file each, one row in `registry`.

To add one (docs/how-to/add-a-protocol.md says more):

1. Write `NAME.py` with `def protocol(params: GatewayParams) -> WireProtocol` (`frame`). What it
   keeps between requests lives in what this function builds, bounded.
2. `reads` maps each POST path to a function `(Asked) -> Internal`. It checks every field it
   looks at and raises `RequestError(..., param="that protocol's own name")`; it returns OpenAI's
   path and body, `stream` set, and a writer for this one request.
3. The writer is `Translated(teller)` (`translation`); the teller has `piece`, `end`, `whole`,
   `sign_of_life`, `failed` and gets decoded answers (`engine_stream.Answer`). For a stream ask
   the engine for usage: `stream_options={"include_usage": True}`.
4. `error_body` writes errors before the head; `side_routes` are documents beside inference
   (`SideRoute` with an endpoint `(SideAsk) -> Response`), keys and errors are done for you.
5. Add the row in `registry.PROTOCOLS`. A path that another row has needs `claims`.

Keys, limits, bounds, draining, records, tasks, supersession, estimates and clients that leave
are `inference`'s, the same for all. Tests: tests/gateway/test_protocol_frame.py tells a new row
by itself.
"""
