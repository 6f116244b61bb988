"""Random commands to the real redis-server and to us: everything observable must agree.

grammar    the commands, as hypothesis strategies; every one of the table, or the reason why not
peers      redis-server and our engine in this process: replies, propagation, events, dirty counter,
           digest, encodings
servers    whole servers of either kind: replies, replication stream, dataset
comparing  what of those must be equal, and what nothing fixes
"""
