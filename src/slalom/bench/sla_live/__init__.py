"""The same load against one engine, reached in five ways: straight, by LiteLLM, and by Slalom.

Owns the live half of the service-level benchmark; the twin's half is `bench.sla`. Run it with
`make bench-sla-live`.
"""
