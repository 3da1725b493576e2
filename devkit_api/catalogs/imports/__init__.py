"""Importing files into catalogs: read, check, load; a version comes out whole or not at all."""
