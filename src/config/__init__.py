"""The configuration: a frozen schema, its limits, and the parser that reports all errors at once."""

from src.config.parse import ConfigError, parse, parse_stored
from src.config.schema import JobConfig

__all__ = ["ConfigError", "JobConfig", "parse", "parse_stored"]
