"""Dujiang stands between a product and the AI dialogue and voice APIs it depends on."""

__version__ = "0.1.0"
