"""Measures the devkit against a bare aiohttp server. Start it with `scripts/bench`."""
