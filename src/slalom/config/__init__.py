"""Configuration: what may be written, where it comes from, and what the other rooms get of it."""

from slalom.config.schema import Config

__all__ = ["Config"]
