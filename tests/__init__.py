"""The tests of kvrepl and rdb; each folder is one kind of evidence.

unit/        one module at a time, no process, no socket
property/    hypothesis: laws that hold for every input
fuzz/        hostile bytes: a value or our own error, never any other
simulation/  whole clusters in one process under a seed
interop/     real processes: kvrepl-server against redis-server 7.0
data/        golden bytes, each with the command that made them
"""
