"""The side of a Dask worker: the engine that executes runs there, and its talk with the devkit."""
