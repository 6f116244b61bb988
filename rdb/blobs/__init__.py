"""The packed containers that an RDB carries as strings: listpack, ziplist, intset, zipmap.

Each module decodes a whole blob to a list and refuses one that is not consistent in itself
with RdbError. listpack and intset, which Redis 7.0 writes, are encoded too.
"""
