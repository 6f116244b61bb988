"""What the collections that a key can hold have in common: they tell whether they were used.

A collection that nobody used for a while is packed (kvrepl.persistence.packing). Whether it was
used is for the keyspace to note, in the value itself: that is the one place which a look-up has at
hand, and what is packed has no such place and needs none.
"""

from __future__ import annotations


class Collection:
    """A value that may be packed when it is not used.

    Attributes:
        touched: it was used since the keyspace last looked; not there before anybody looked it up.
    """

    __slots__ = ("touched",)

    touched: bool
