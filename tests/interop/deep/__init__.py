"""The long acceptance runs against redis-server: a million keys, fifty cuts, fifty kills.

`make deep` runs them. Each prints its figures as it ends, to be quoted.
"""
