"""Runs on a Dask cluster: the devkit's side here, the workers' side in `worker/`.

Dask decides where a run goes, no more. What a worker gets through the scheduler is a summons: an address and a ticket
that is good once. With it the worker calls the devkit (`/v1/cluster/attach`), and over that one connection goes all
the rest: the order with the run's token, the module's source, what the run prints, when it has to stop, how it ended.
Who holds the connection has the run; when it breaks, the run is over on both sides. So nothing runs twice, however
often Dask tries, and nothing is left running for a devkit that is gone.
"""
