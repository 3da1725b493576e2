"""Data catalogs: peptides, proteins, samples and alleles in PostgreSQL, as the SDK reads them (wire-contract F)."""
