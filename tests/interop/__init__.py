"""Real servers talking to each other, redis-server 7.0 on at least one side or as the judge.

harness   a server process, its files and its clients; waiting with a deadline
proxy     a TCP proxy that cuts, stalls and trickles a link
datasets  keys of every type, write load, and a writer that remembers what was acknowledged
"""
