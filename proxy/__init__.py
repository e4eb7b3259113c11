"""Weighbridge: an OpenAI-compatible routing proxy with built-in measurement."""

__version__ = "0.1.0"
