"""Models as files: what is in a GGUF, what memory it takes, where it comes from, making one.

Owns GGUF metadata (`gguf_metadata`), memory estimates (`memory`), model sources (`sources`),
random-weight models (`synth`) and the bundled models (`data`). It starts no engine. Called by
the engines, the configuration and the command line, which import the modules directly: an
engine process that only reads metadata must not pay for the Hugging Face client.
"""
