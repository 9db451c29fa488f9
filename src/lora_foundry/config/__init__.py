"""The configuration: a frozen schema, its limits, and the parser that reports all errors at once."""

from lora_foundry.config.parse import ConfigError, parse, parse_stored
from lora_foundry.config.schema import JobConfig

__all__ = ["ConfigError", "JobConfig", "parse", "parse_stored"]
