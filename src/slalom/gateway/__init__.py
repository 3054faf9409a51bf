"""HTTP in front of the runtime: the OpenAI API, errors, keys, metrics, the admin routes.

The only room that knows HTTP status codes. Start at `app`, then `inference`, then `asgi_sink`.
Called by the assembly, which fills `params.GatewayParams` from the configuration.
"""
