"""Data views (wire-contract F.8): saved queries over catalogs."""
