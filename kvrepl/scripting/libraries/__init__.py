"""The libraries that scripts find as globals: bit, struct, cjson, cmsgpack.

`bit` and `struct` look at numbers and strings only and are Python; `cjson` and `cmsgpack` walk
tables and are Lua, so that no table ever crosses into Python.
"""
