"""Environments of modules: packages a module needs and the devkit's own interpreter does not have."""
