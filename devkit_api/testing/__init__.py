"""Fixtures for the tests of other people's modules, as a plugin of pytest (docs/testing.md)."""
