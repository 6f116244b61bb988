"""RDB files: reading, writing, checking. Knows nothing of kvrepl."""
