"""PostgreSQL: the embedded server, the pools, the migrations."""
