"""Lua scripts and functions, on Lua 5.1, behind the port `Engine.scripts`.

    runtime       Scripting: what the commands ask for (kvrepl.commands.scripting parses, this does)
    scripts       the cache of EVAL's scripts
    functions     the function libraries
    run           one run of a script: what redis.call may do, and how it is propagated
    conversion    replies of commands -> Lua values
    interpreter   one Lua state: compile, run, and nothing else
    replies, registration   Lua values -> RESP; redis.register_function (Lua)
    sandbox       the Lua code that closes the state in before a script is let into it
    libraries/    bit, struct (Python), cjson, cmsgpack (Lua)
    shebang       the first line of scripts and libraries: flags, name, engine

The room stands below `commands`: a script calls commands through the engine, and the commands
EVAL, FCALL, SCRIPT and FUNCTION reach this room through the port alone. Lua comes from the package
`lupa`. Where that is not installed `NoScripting` takes the port: it answers every such command
with one clear error and keeps the code of function libraries, so that they are saved and
replicated all the same.

Source: Redis 7.0 script.c, script_lua.c, eval.c, functions.c, function_lua.c.
"""
