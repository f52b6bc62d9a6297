"""Patchkiln: a prompt and a repository go in, a checked patch comes out, told live."""

__version__ = "0.1.0"
