"""Folders of this machine that a module's page may browse: configured roots only, and never written to."""
