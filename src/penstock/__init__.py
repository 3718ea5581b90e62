"""Penstock: the AI gateway that is also a financial control plane."""

__version__ = "0.1.0"
