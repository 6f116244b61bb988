"""kvrepl: Redis replication and persistence in Python. See docs/TOUR.md for the way around."""

__version__ = "0.1.0"

REDIS_VERSION = "7.0.15"
"""The Redis release whose behaviour and protocol this server offers."""
