"""The HLA-Compass platform on a scientist's own machine."""

__version__ = "0.1.0"
