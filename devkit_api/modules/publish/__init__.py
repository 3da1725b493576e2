"""Publishing: a source archive comes in through a grant, is examined, and becomes a fixed version of its module."""
