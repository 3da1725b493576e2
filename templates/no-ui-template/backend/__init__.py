"""Backend of the epitope-anchors module."""
