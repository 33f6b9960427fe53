"""Numbers for requests on their way through the queues; unique in one daemon."""

import itertools

_numbers = itertools.count(1)


def next_ticket() -> int:
    """Return a fresh number."""
    return next(_numbers)
