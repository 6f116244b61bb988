"""Two facts about each command that `COMMAND DOCS` tells: since which release, and which group.

A subcommand that is as old as its container is left out.

Source: the replies of redis-server 7.0.15 to COMMAND DOCS.
"""

from __future__ import annotations

from typing import Final

_RELEASES: Final = {
    "1.0.0": (
        "auth bgrewriteaof bgsave dbsize debug decr decrby del echo exists expire flushall "
        "flushdb get getset incr incrby info keys lastsave lindex llen lpop lpush lrange lrem "
        "lset ltrim mget monitor move ping quit randomkey rename renamenx rpop rpush sadd save "
        "scard sdiff sdiffstore select set setnx shutdown sinter sinterstore sismember slaveof "
        "smembers smove sort spop srandmember srem substr sunion sunionstore sync ttl type"
    ),
    "1.0.1": "mset msetnx",
    "1.0.5": "zrangebyscore",
    "1.2.0": (
        "exec expireat multi rpoplpush zadd zcard zincrby zrange zrem zremrangebyscore "
        "zrevrange zscore"
    ),
    "2.0.0": (
        "append blpop brpop config discard hdel hexists hget hgetall hincrby hkeys hlen hmget "
        "hmset hset hsetnx hvals psubscribe publish punsubscribe setex subscribe unsubscribe "
        "zcount zinterstore zrank zremrangebyrank zrevrank zunionstore"
    ),
    "2.2.0": (
        "brpoplpush getbit linsert lpushx persist rpushx setbit setrange strlen unwatch watch "
        "zrevrangebyscore"
    ),
    "2.2.3": "object",
    "2.2.12": "slowlog",
    "2.4.0": "client getrange",
    "2.6.0": (
        "bitcount bitop dump eval evalsha hincrbyfloat incrbyfloat migrate pexpire pexpireat "
        "psetex pttl restore script time"
    ),
    "2.6.9": "client|getname client|setname",
    "2.8.0": "config|rewrite hscan psync pubsub scan sscan zscan",
    "2.8.7": "bitpos",
    "2.8.9": (
        "pfadd pfcount pfdebug pfmerge pfselftest zlexcount zrangebylex zremrangebylex "
        "zrevrangebylex"
    ),
    "2.8.12": "role",
    "2.8.13": "command latency",
    "2.9.50": "client|pause",
    "3.0.0": "asking cluster readonly readwrite replconf restore-asking wait",
    "3.2.0": (
        "bitfield client|reply geoadd geodist geohash geopos georadius georadiusbymember "
        "hstrlen script|debug"
    ),
    "3.2.1": "touch",
    "3.2.10": "georadius_ro georadiusbymember_ro",
    "4.0.0": "memory module object|freq swapdb unlink",
    "5.0.0": (
        "bzpopmax bzpopmin client|help client|id client|unblock cluster|help cluster|replicas "
        "command|help config|help lolwut module|help replicaof script|help xack xadd xclaim "
        "xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim zpopmax "
        "zpopmin"
    ),
    "6.0.0": "acl bitfield_ro client|caching client|getredir client|tracking hello",
    "6.0.6": "lpos",
    "6.2.0": (
        "blmove client|info client|trackinginfo client|unpause copy failover geosearch "
        "geosearchstore getdel getex hrandfield lmove object|help pubsub|help reset "
        "slowlog|help smismember xautoclaim xgroup|createconsumer zdiff zdiffstore zinter "
        "zmscore zrandmember zrangestore zunion"
    ),
    "7.0.0": (
        "acl|dryrun blmpop bzmpop client|no-evict cluster|addslotsrange cluster|delslotsrange "
        "cluster|links cluster|shards command|docs command|getkeysandflags command|list eval_ro "
        "evalsha_ro expiretime fcall fcall_ro function latency|histogram lcs lmpop "
        "module|loadex pexpiretime pubsub|shardchannels pubsub|shardnumsub sintercard sort_ro "
        "spublish ssubscribe sunsubscribe zintercard zmpop"
    ),
}

_GROUPS: Final = {
    "bitmap": "bitcount bitfield bitfield_ro bitop bitpos getbit setbit",
    "cluster": "asking cluster readonly readwrite",
    "connection": "auth client echo hello ping quit reset select",
    "generic": (
        "copy del dump exists expire expireat expiretime keys migrate move object persist "
        "pexpire pexpireat pexpiretime pttl randomkey rename renamenx restore scan sort sort_ro "
        "touch ttl type unlink wait"
    ),
    "geo": (
        "geoadd geodist geohash geopos georadius georadius_ro georadiusbymember "
        "georadiusbymember_ro geosearch geosearchstore"
    ),
    "hash": (
        "hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan "
        "hset hsetnx hstrlen hvals"
    ),
    "hyperloglog": "pfadd pfcount pfdebug pfmerge pfselftest",
    "list": (
        "blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush "
        "lpushx lrange lrem lset ltrim rpop rpoplpush rpush rpushx"
    ),
    "pubsub": (
        "psubscribe publish pubsub punsubscribe spublish ssubscribe subscribe sunsubscribe "
        "unsubscribe"
    ),
    "scripting": "eval eval_ro evalsha evalsha_ro fcall fcall_ro function script",
    "server": (
        "acl bgrewriteaof bgsave command config dbsize debug failover flushall flushdb info "
        "lastsave latency lolwut memory module monitor psync replconf replicaof restore-asking "
        "role save shutdown slaveof slowlog swapdb sync time"
    ),
    "set": (
        "sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers "
        "smismember smove spop srandmember srem sscan sunion sunionstore"
    ),
    "sorted-set": (
        "bzmpop bzpopmax bzpopmin zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard "
        "zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex "
        "zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore "
        "zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore"
    ),
    "stream": (
        "xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup "
        "xrevrange xsetid xtrim"
    ),
    "string": (
        "append decr decrby get getdel getex getrange getset incr incrby incrbyfloat lcs mget "
        "mset msetnx psetex set setex setnx setrange strlen substr"
    ),
    "transactions": "discard exec multi unwatch watch",
}

SINCE: Final[dict[str, str]] = {
    name: release for release, names in _RELEASES.items() for name in names.split()
}
"""Command -> the release of Redis that brought it."""

GROUP: Final[dict[str, str]] = {
    name: group for group, names in _GROUPS.items() for name in names.split()
}
"""Command -> the group that the documentation puts it in."""
