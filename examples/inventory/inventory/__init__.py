"""A small stock-keeping service."""

__version__ = "1.4.0"
