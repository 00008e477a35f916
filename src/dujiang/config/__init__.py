"""The one YAML file that says what this gateway is: its schema, and how it is read and checked."""

from dujiang.config.loading import ConfigInvalid, Problem, load_config, parse_config
from dujiang.config.schema import Config

__all__ = ["Config", "ConfigInvalid", "Problem", "load_config", "parse_config"]
