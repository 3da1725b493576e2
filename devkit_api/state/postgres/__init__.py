"""Documents in PostgreSQL: one devkit owns them, others may stand by."""
