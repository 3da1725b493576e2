"""Modules: registration, manifest rules, source bundles."""
