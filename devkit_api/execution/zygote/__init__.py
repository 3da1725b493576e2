"""Warm processes: a nursery holds the SDK, its zygotes hold one module each, and every run is a fork of a zygote.

    server --exec--> nursery --fork--> zygote (one module, one run at a time) --fork--> run

The server never forks. `launch`, `nursery`, `zygote`, `preimport`, `rehearsal`, `forked`, `confine` and `wire` run in
the child processes: standard library only, and loaded outside the package `devkit_api`, which a module must not see.
`handle` and `pool` are the server's side.
"""
