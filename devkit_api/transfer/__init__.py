"""A whole devkit as one file: export of a stopped one, import into an empty one."""


class TransferRefused(Exception):
    """The export or import cannot be done; the message says why and what to do. Nothing was left behind."""
