"""INFO: every section, with Redis's field names in Redis's order.

Fields for what does not exist here (jemalloc's arenas, io threads, modules) are present with the
value that a Redis without it has, because exporters parse them. `redis_version` is the level of
compatibility, `kvrepl_version` stands beside it.

Source: Redis 7.0 server.c (genRedisInfoString).
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import psutil

from kvrepl import REDIS_VERSION, __version__
from kvrepl.engine.latency import percentile_ns
from kvrepl.scripting.runtime import Scripting
from kvrepl.server import children
from kvrepl.server.memory import figures

if TYPE_CHECKING:
    from kvrepl.server.app import Server

Field = tuple[str, object]
Section = Callable[["Server"], Iterator[Field]]


def human(size: float) -> str:
    """Bytes for people, as INFO prints them: 1.50M."""
    if size < 1024:
        return f"{int(size)}B"
    for unit in "KMGTP":
        size /= 1024
        if size < 1024 or unit == "P":
            break
    return f"{size:.2f}{unit}"


def _server(server: Server) -> Iterator[Field]:
    config = server.config
    now_ms = server.clock.now_ms()
    uptime_s = max((now_ms - server.started_ms) // 1000, 0)
    yield "redis_version", REDIS_VERSION
    yield "redis_git_sha1", "00000000"
    yield "redis_git_dirty", 0
    yield "redis_build_id", "0"
    yield "redis_mode", "standalone"
    system = os.uname()
    yield "os", f"{system.sysname} {system.release} {system.machine}"
    yield "arch_bits", 64
    yield "monotonic_clock", "POSIX clock_gettime"
    yield "multiplexing_api", type(server.loop).__module__.partition(".")[0]
    yield "atomicvar_api", "gil"
    yield "gcc_version", "0.0.0"
    yield "process_id", os.getpid()
    yield "process_supervised", config.supervised
    yield "run_id", server.run_id
    yield "tcp_port", config.port or config.tls_port
    yield "server_time_usec", time.time_ns() // 1000
    yield "uptime_in_seconds", uptime_s
    yield "uptime_in_days", uptime_s // 86400
    yield "hz", config.hz
    yield "configured_hz", config.hz
    yield "lru_clock", now_ms // 1000 & 0xFFFFFF
    yield "executable", os.path.abspath(sys.argv[0])
    yield "config_file", config.config_file
    yield "io_threads_active", 0
    yield "kvrepl_version", __version__
    yield "python_version", platform.python_version()
    if server.shutdown.deadline_ms is not None:
        yield "shutdown_in_milliseconds", max(server.shutdown.deadline_ms - now_ms, 0)


def _clients(server: Server) -> Iterator[Field]:
    replicas = len(server.replication.machine.master.replicas)
    waiting = server.engine.blocking.waiting
    yield "connected_clients", len(server.clients) - replicas
    yield "cluster_connections", 0
    yield "maxclients", server.config.maxclients
    connections = server.clients.connections.values()
    yield (
        "client_recent_max_input_buffer",
        max((c.parser.pending_bytes for c in connections if c.parser is not None), default=0),
    )
    yield "client_recent_max_output_buffer", max((c.output_bytes() for c in connections), default=0)
    yield "blocked_clients", len(waiting)
    yield "tracking_clients", len(server.engine.tracking.clients)
    yield "clients_in_timeout_table", sum(wait.deadline_ms != 0 for wait in waiting.values())


def _memory(server: Server) -> Iterator[Field]:
    config, engine = server.config, server.engine
    found = figures(server)
    used, rss, lua = found.used_bytes, found.rss_bytes, found.lua_eval_bytes
    net = max(used - found.start_bytes, 1)
    total = psutil.virtual_memory().total
    yield "used_memory", used
    yield "used_memory_human", human(used)
    yield "used_memory_rss", rss
    yield "used_memory_rss_human", human(rss)
    yield "used_memory_peak", found.peak_bytes
    yield "used_memory_peak_human", human(found.peak_bytes)
    yield "used_memory_peak_perc", f"{used / found.peak_bytes * 100:.2f}%"
    yield "used_memory_overhead", found.overhead_bytes
    yield "used_memory_startup", found.start_bytes
    yield "used_memory_dataset", found.dataset_bytes
    yield "used_memory_dataset_perc", f"{found.dataset_bytes / net * 100:.2f}%"
    # Lua has an allocator of its own: it is resident, and not of the interpreter's.
    resident = max(rss - lua - found.lua_function_bytes, used)
    yield "allocator_allocated", used
    yield "allocator_active", resident
    yield "allocator_resident", resident
    yield "total_system_memory", total
    yield "total_system_memory_human", human(total)
    yield "used_memory_lua", lua
    yield "used_memory_vm_eval", lua
    yield "used_memory_lua_human", human(lua)
    yield "used_memory_scripts_eval", found.script_bytes
    scripting = engine.scripts
    has_lua = isinstance(scripting, Scripting)
    libraries, functions = scripting.functions.counts() if has_lua else (0, 0)
    yield "number_of_cached_scripts", len(scripting.scripts) if has_lua else 0
    yield "number_of_functions", functions
    yield "number_of_libraries", libraries
    yield "used_memory_vm_functions", found.lua_function_bytes
    yield "used_memory_vm_total", lua + found.lua_function_bytes
    yield "used_memory_vm_total_human", human(lua + found.lua_function_bytes)
    yield "used_memory_functions", found.function_bytes
    texts = found.script_bytes + found.function_bytes
    yield "used_memory_scripts", texts
    yield "used_memory_scripts_human", human(texts)
    yield "maxmemory", config.maxmemory
    yield "maxmemory_human", human(config.maxmemory)
    yield "maxmemory_policy", config.maxmemory_policy
    yield "allocator_frag_ratio", f"{resident / used:.2f}"
    yield "allocator_frag_bytes", resident - used
    yield "allocator_rss_ratio", "1.00"
    yield "allocator_rss_bytes", 0
    yield "rss_overhead_ratio", f"{rss / resident:.2f}"
    yield "rss_overhead_bytes", rss - resident
    yield "mem_fragmentation_ratio", f"{rss / used:.2f}"
    yield "mem_fragmentation_bytes", rss - used
    yield "mem_not_counted_for_evict", found.uncounted_bytes
    yield "mem_replication_backlog", found.backlog_bytes
    yield "mem_total_replication_buffers", found.backlog_bytes + found.replica_bytes
    yield "mem_clients_slaves", found.replica_bytes
    yield "mem_clients_normal", found.client_bytes
    yield "mem_cluster_links", 0
    yield "mem_aof_buffer", found.aof_bytes
    yield "mem_allocator", "python (estimated)" if server.meter.is_estimate else "python"
    yield "active_defrag_running", 0
    yield "lazyfree_pending_objects", engine.keyspace.garbage.pending
    yield "lazyfreed_objects", engine.keyspace.garbage.freed
    yield "kvrepl_packed_again", server.packing.packed
    yield "kvrepl_packed_again_saved_bytes", server.packing.saved_bytes


def _persistence(server: Server) -> Iterator[Field]:
    saver, aof = server.saver, server.aof.log
    child = server.children.active
    loading = saver.loading
    now_s = server.clock.now_ms() // 1000
    is_rdb = child is not None and child.kind == children.RDB
    is_aof = child is not None and child.kind == children.AOF
    yield "loading", int(loading is not None and not loading.is_async)
    yield "async_loading", int(loading is not None and loading.is_async)
    yield "current_cow_peak", child.cow_peak_bytes if child else 0
    yield "current_cow_size", child.cow_bytes if child else 0
    age_s = (time.monotonic_ns() - child.cow_at_ns) // 10**9 if child and child.cow_at_ns else 0
    yield "current_cow_size_age", age_s
    percent = 100 * child.keys / child.keys_total if child and child.keys_total else 0.0
    yield "current_fork_perc", f"{percent:.2f}"
    yield "current_save_keys_processed", child.keys if child else 0
    yield "current_save_keys_total", child.keys_total if child else 0
    yield "rdb_changes_since_last_save", server.engine.keyspace.dirty
    yield "rdb_bgsave_in_progress", int(is_rdb)
    yield "rdb_last_save_time", saver.last_save_s
    yield "rdb_last_bgsave_status", "ok" if saver.last_ok else "err"
    yield "rdb_last_bgsave_time_sec", saver.last_duration_s
    yield "rdb_current_bgsave_time_sec", now_s - saver.last_try_s if is_rdb else -1
    yield "rdb_saves", saver.saves
    yield "rdb_last_cow_size", server.children.last_cow_bytes[children.RDB]
    yield "rdb_last_load_keys_expired", saver.last_loaded.expired
    yield "rdb_last_load_keys_loaded", saver.last_loaded.keys
    yield "aof_enabled", int(server.aof.is_on)
    yield "aof_rewrite_in_progress", int(is_aof)
    yield "aof_rewrite_scheduled", int(aof.rewrite_scheduled)
    last_ms = aof.last_rewrite_ms
    yield "aof_last_rewrite_time_sec", -1 if last_ms is None else last_ms // 1000
    running_ms = aof.rewrite_started_ms
    yield (
        "aof_current_rewrite_time_sec",
        (-1 if running_ms is None else (time.monotonic_ns() // 1_000_000 - running_ms) // 1000),
    )
    yield "aof_last_bgrewrite_status", "ok" if aof.last_rewrite_ok else "err"
    yield "aof_rewrites", aof.rewrites
    yield "aof_rewrites_consecutive_failures", aof.failures
    yield "aof_last_write_status", "err" if aof.error else "ok"
    yield "aof_last_cow_size", server.children.last_cow_bytes[children.AOF]
    yield "module_fork_in_progress", 0
    yield "module_fork_last_cow_size", 0
    if server.aof.is_on:
        yield "aof_current_size", aof.size_bytes
        yield "aof_base_size", aof.base_bytes
        yield "aof_pending_rewrite", int(aof.rewrite_scheduled)
        yield "aof_buffer_length", aof.writer.buffer_bytes
        yield "aof_pending_bio_fsync", int(aof.writer.fsync_in_flight)
        yield "aof_delayed_fsync", aof.writer.delayed_fsync
    if loading is not None:
        done, total = loading.loaded_bytes, loading.total_bytes
        spent_s = max((server.clock.now_ms() - loading.started_ms) // 1000, 0)
        yield "loading_start_time", loading.started_ms // 1000
        yield "loading_total_bytes", total
        yield "loading_rdb_used_mem", loading.rdb_used_bytes()
        yield "loading_loaded_bytes", done
        yield "loading_loaded_perc", f"{100 * done / total if total else 0:.2f}"
        yield "loading_eta_seconds", spent_s * max(total - done, 0) // done if done else 1


def _stats(server: Server) -> Iterator[Field]:
    engine, cron = server.engine, server.cron
    stats, keyspace = engine.stats, engine.keyspace
    sync = server.replication.machine.master.syncs
    yield "total_connections_received", stats.connections
    yield "total_commands_processed", server.commands_processed()
    yield "instantaneous_ops_per_sec", int(cron.commands.per_second)
    yield "total_net_input_bytes", stats.net_in_bytes + stats.repl_in_bytes
    yield "total_net_output_bytes", stats.net_out_bytes + stats.repl_out_bytes
    yield "total_net_repl_input_bytes", stats.repl_in_bytes
    yield "total_net_repl_output_bytes", stats.repl_out_bytes
    yield "instantaneous_input_kbps", f"{cron.net_in.per_second / 1024:.2f}"
    yield "instantaneous_output_kbps", f"{cron.net_out.per_second / 1024:.2f}"
    yield "instantaneous_input_repl_kbps", f"{cron.repl_in.per_second / 1024:.2f}"
    yield "instantaneous_output_repl_kbps", f"{cron.repl_out.per_second / 1024:.2f}"
    yield "rejected_connections", stats.rejected_connections
    yield "sync_full", sync.full
    yield "sync_partial_ok", sync.partial_ok
    yield "sync_partial_err", sync.partial_err
    yield "expired_keys", keyspace.expired
    yield "expired_stale_perc", "0.00"
    yield "expired_time_cap_reached_count", stats.expired_cycle_timeouts
    yield "expire_cycle_cpu_milliseconds", cron.expiry_ns // 1_000_000
    yield "evicted_keys", stats.evicted
    exceeded_ms, exceeded_now_ms = engine.memory.exceeded_ms()
    yield "evicted_clients", stats.evicted_clients
    yield "total_eviction_exceeded_time", exceeded_ms
    yield "current_eviction_exceeded_time", exceeded_now_ms
    yield "keyspace_hits", keyspace.hits
    yield "keyspace_misses", keyspace.misses
    yield "pubsub_channels", len(engine.pubsub.channels)
    yield "pubsub_patterns", len(engine.pubsub.patterns)
    yield "pubsubshard_channels", len(engine.pubsub.shard)
    yield "latest_fork_usec", server.children.fork_us
    yield "total_forks", server.children.forks
    yield "migrate_cached_sockets", 0
    yield "slave_expires_tracked_keys", len(engine.keyspace.local_expiry)
    for name in (
        "active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits",
        "active_defrag_key_misses", "total_active_defrag_time", "current_active_defrag_time",
    ):  # fmt: skip
        yield name, 0
    yield "tracking_total_keys", len(engine.tracking.keys)
    yield "tracking_total_items", engine.tracking.items
    yield "tracking_total_prefixes", len(engine.tracking.prefixes)
    yield "unexpected_error_replies", stats.unexpected_error_replies
    yield "total_error_replies", stats.errors
    yield "dump_payload_sanitizations", 0
    yield "total_reads_processed", stats.reads
    yield "total_writes_processed", stats.writes
    for name in ("io_threaded_reads_processed", "io_threaded_writes_processed",
                 "reply_buffer_shrinks", "reply_buffer_expands"):  # fmt: skip
        yield name, 0


def _replication(server: Server) -> Iterator[Field]:
    yield from server.replication.info()


def _cpu(server: Server) -> Iterator[Field]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
    thread = resource.getrusage(resource.RUSAGE_THREAD)
    for name, usage in (("", own), ("_children", reaped), ("_main_thread", thread)):
        yield f"used_cpu_sys{name}", f"{usage.ru_stime:.6f}"
        yield f"used_cpu_user{name}", f"{usage.ru_utime:.6f}"


def _nothing(server: Server) -> Iterator[Field]:
    yield from ()


def _commandstats(server: Server) -> Iterator[Field]:
    for command in server.engine.all_commands():
        if command.calls or command.rejected or command.failed:
            usec = command.nanoseconds // 1000
            yield (
                f"cmdstat_{command.name}",
                f"calls={command.calls},usec={usec},"
                f"usec_per_call={usec / max(command.calls, 1):.2f},"
                f"rejected_calls={command.rejected},failed_calls={command.failed}",
            )


def _errorstats(server: Server) -> Iterator[Field]:
    for code, count in sorted(server.engine.stats.error_counts.items()):
        yield f"errorstat_{code.decode(errors='backslashreplace')}", f"count={count}"


def _latencystats(server: Server) -> Iterator[Field]:
    config = server.config
    if not config.latency_tracking:
        return
    for command in server.engine.all_commands():
        if command.spans:
            shown = ",".join(
                f"p{percent:g}={percentile_ns(command.spans, percent) / 1000:.3f}"
                for percent in config.latency_tracking_info_percentiles
            )
            yield f"latency_percentiles_usec_{command.name}", shown


def _cluster(server: Server) -> Iterator[Field]:
    yield "cluster_enabled", 0


def _keyspace(server: Server) -> Iterator[Field]:
    for db in server.engine.keyspace.nonempty():
        expires, ttl_ms = db.expires_count(), db.mean_ttl_ms()
        yield f"db{db.index}", f"keys={len(db)},expires={expires},avg_ttl={ttl_ms}"


SECTIONS: Final[dict[str, tuple[str, Section]]] = {
    "server": ("Server", _server),
    "clients": ("Clients", _clients),
    "memory": ("Memory", _memory),
    "persistence": ("Persistence", _persistence),
    "stats": ("Stats", _stats),
    "replication": ("Replication", _replication),
    "cpu": ("CPU", _cpu),
    "modules": ("Modules", _nothing),
    "commandstats": ("Commandstats", _commandstats),
    "errorstats": ("Errorstats", _errorstats),
    "latencystats": ("Latencystats", _latencystats),
    "cluster": ("Cluster", _cluster),
    "keyspace": ("Keyspace", _keyspace),
}
NOT_BY_DEFAULT: Final = frozenset(("commandstats", "latencystats"))


def render(server: Server, names: Sequence[bytes]) -> bytes:
    """The text of INFO.

    Args:
        server: whose figures.
        names: sections in lower case, or default, all, everything; none means default.
    """
    wanted: set[str] = set()
    for name in names or (b"default",):
        text = name.decode(errors="replace")
        if text in ("all", "everything"):
            wanted.update(SECTIONS)
        elif text == "default":
            wanted.update(set(SECTIONS) - NOT_BY_DEFAULT)
        else:
            wanted.add(text)
    parts = []
    for name_, (title, section) in SECTIONS.items():
        if name_ in wanted:
            lines = "".join(f"{field}:{value}\r\n" for field, value in section(server))
            parts.append(f"# {title}\r\n{lines}")
    return "\r\n".join(parts).encode("utf-8", "surrogateescape")
