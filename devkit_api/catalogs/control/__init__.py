"""The control plane of catalogs (wire-contract F.2): catalogs, versions, uploads, ingestion."""
