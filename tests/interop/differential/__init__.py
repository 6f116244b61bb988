"""Random commands to the real redis-server and to our engine: everything observable must agree.

peers     the two sides, and what is observed of each: replies, propagation, events, dirty counter,
          digest, encodings
grammar   the commands, as hypothesis strategies
"""
