"""Configuration: what may be written, where it comes from, and what the other rooms get of it."""

from slalom.config.load import load
from slalom.config.origins import Origins
from slalom.config.schema import Config

__all__ = ["Config", "Origins", "load"]
