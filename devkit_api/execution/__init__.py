"""Executing runs: the executor protocol and its adapters."""
