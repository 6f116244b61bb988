# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The loops of kvrepl.engine.batch, compiled. See there for what they do and why.

Objects are the plain Python ones; their slots are read in place (kvrepl/_slots.pxd). What plain
commands answer and propagate gathers in two buffers, `Gathered`; hand_on() empties them in the
order that the reference keeps.

Optional: import the names from kvrepl.engine.batch.
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.list cimport PyList_Append, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject, Py_TYPE
from cpython.ref cimport Py_INCREF
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from kvrepl._accel cimport Buffer, RequestParser, put_command, put_value
from kvrepl._slots cimport add_int, get_int, get_slot, set_slot, slot_offset

from time import monotonic_ns as MONOTONIC_NS

from kvrepl.clock import FRESH_NS as _FRESH_NS
from kvrepl.engine.blocking import POSTPONED, Blocking
from kvrepl.engine.client import Client
from kvrepl.engine.gates import ACL as _ACL
from kvrepl.engine.gates import CLOSING as _CLOSING
from kvrepl.engine.latency import BUCKETS as _BUCKETS
from kvrepl.engine.latency import EMPTY
from kvrepl.engine.propagation import BOTH as _BOTH
from kvrepl.engine.propagation import Propagation
from kvrepl.engine.spec import Command
from kvrepl.engine.stats import Stats
from kvrepl.errors import CommandError
from kvrepl.keyspace.database import IGNORE, Database
from kvrepl.keyspace.keyspace import Keyspace
from kvrepl.resp import encode
from kvrepl.resp.values import BLOCKED, NO_REPLY

cdef extern from "Python.h":
    object bytes_of "PyBytes_FromStringAndSize"(const char *, Py_ssize_t)
    PyObject *Py_True
    Py_ssize_t dict_size "PyDict_GET_SIZE"(PyObject *)
    Py_ssize_t list_size "PyList_GET_SIZE"(PyObject *)

cdef enum:
    SMALL_BYTES = 16 * 1024  # replies as large as this are handed on as they are

cdef long long ACL = _ACL
cdef long long CLOSING = _CLOSING
cdef long long FRESH_NS = _FRESH_NS
cdef long long BUCKETS = _BUCKETS
cdef long long BOTH = _BOTH

cdef object ENGINE = None  # the class; its module imports this one, so see know_engine
cdef Py_ssize_t ENGINE_BLOCKING, ENGINE_BUDGET_NS, ENGINE_CLOCK, ENGINE_GATES, ENGINE_KEYSPACE
cdef Py_ssize_t ENGINE_PROPAGATION, ENGINE_SLOW_NS, ENGINE_SPELLINGS, ENGINE_STATS
cdef Py_ssize_t ENGINE_TIMED_NS, ENGINE_WRITERS
cdef Py_ssize_t COMMAND_LEAST = slot_offset(Command, "least")
cdef Py_ssize_t COMMAND_MOST = slot_offset(Command, "most")
cdef Py_ssize_t COMMAND_SUBCOMMANDS = slot_offset(Command, "subcommands")
cdef Py_ssize_t COMMAND_MASK = slot_offset(Command, "mask")
cdef Py_ssize_t COMMAND_PLAIN = slot_offset(Command, "plain")
cdef Py_ssize_t COMMAND_HANDLER = slot_offset(Command, "handler")
cdef Py_ssize_t COMMAND_CALLS = slot_offset(Command, "calls")
cdef Py_ssize_t COMMAND_NANOSECONDS = slot_offset(Command, "nanoseconds")
cdef Py_ssize_t COMMAND_SPANS = slot_offset(Command, "spans")
cdef Py_ssize_t COMMAND_FAILED = slot_offset(Command, "failed")
cdef Py_ssize_t CLIENT_DB = slot_offset(Client, "db")
cdef Py_ssize_t CLIENT_EXEMPT = slot_offset(Client, "exempt")
cdef Py_ssize_t CLIENT_GATES = slot_offset(Client, "gates")
cdef Py_ssize_t CLIENT_LAST_COMMAND = slot_offset(Client, "last_command")
cdef Py_ssize_t CLIENT_LAST_INTERACTION_MS = slot_offset(Client, "last_interaction_ms")
cdef Py_ssize_t CLIENT_OUT = slot_offset(Client, "out")
cdef Py_ssize_t CLIENT_PENDING = slot_offset(Client, "pending")
cdef Py_ssize_t CLIENT_RESP = slot_offset(Client, "resp")
cdef Py_ssize_t CLIENT_WAIT = slot_offset(Client, "wait")
cdef Py_ssize_t DATABASE_INDEX = slot_offset(Database, "index")
cdef Py_ssize_t KEYSPACE_DIRTY = slot_offset(Keyspace, "dirty")
cdef Py_ssize_t KEYSPACE_NOW_MS = slot_offset(Keyspace, "now_ms")
cdef Py_ssize_t BLOCKING_READY = slot_offset(Blocking, "ready")
cdef Py_ssize_t PROPAGATION_FORCED = slot_offset(Propagation, "_forced")
cdef Py_ssize_t PROPAGATION_INSTEAD = slot_offset(Propagation, "_instead")
cdef Py_ssize_t PROPAGATION_ONLY = slot_offset(Propagation, "_only")
cdef Py_ssize_t PROPAGATION_OPS = slot_offset(Propagation, "ops")
cdef Py_ssize_t PROPAGATION_TARGETS = slot_offset(Propagation, "targets")
cdef Py_ssize_t PROPAGATION_WRAP = slot_offset(Propagation, "_wrap")
cdef Py_ssize_t STATS_NET_IN_BYTES = slot_offset(Stats, "net_in_bytes")
cdef Py_ssize_t STATS_READS = slot_offset(Stats, "reads")


cdef struct Gathered:
    Buffer replies
    Buffer stream
    long long db  # of all that is in stream
    Py_ssize_t out_size  # len(client.out) when the first reply was gathered


cdef inline void keep(PyObject *owner, Py_ssize_t slot, PyObject *value) noexcept:
    """Store one more reference to the value."""
    Py_INCREF(<object> value)
    set_slot(owner, slot, value)


cdef inline int stir(PyObject *engine, PyObject *client) except -1:
    """The same as Client.stir."""
    if get_slot(client, CLIENT_PENDING) != Py_True:
        keep(client, CLIENT_PENDING, Py_True)
        PyList_Append(<object> get_slot(engine, ENGINE_WRITERS), <object> client)
    return 0


cdef inline bint is_none(PyObject *value) noexcept:
    return value == <PyObject *> None


cdef inline long long now_ns(object monotonic_ns) except -1:
    """Read the clock; the real one without a call into Python."""
    cdef timespec at
    if monotonic_ns is MONOTONIC_NS:
        clock_gettime(CLOCK_MONOTONIC, &at)
        return <long long> at.tv_sec * 1_000_000_000 + at.tv_nsec
    return monotonic_ns()


# --------------------------------------------------------------- what is gathered


cdef int hand_on_stream(object propagation, Gathered *gathered) except -1:
    """Give the streams what the commands so far propagate."""
    if gathered.stream.size:
        encoded = bytes_of(gathered.stream.data, gathered.stream.size)
        gathered.stream.size = 0
        propagation.feed(gathered.db, encoded)
    return 0


cdef int hand_on_replies(list out, Gathered *gathered) except -1:
    """Give the client the answers so far, before anything that came after them."""
    if gathered.replies.size:
        encoded = bytes_of(gathered.replies.data, gathered.replies.size)
        gathered.replies.size = 0
        out.insert(gathered.out_size, encoded)
    return 0


cdef int gather_reply(list out, Gathered *gathered, object reply, int protocol) except -1:
    cdef Py_ssize_t before = gathered.replies.size
    if before and PyList_GET_SIZE(out) != gathered.out_size:
        hand_on_replies(out, gathered)  # the command sent something of its own: it goes between
        before = 0
    if type(reply) is bytes and PyBytes_GET_SIZE(reply) >= SMALL_BYTES:
        hand_on_replies(out, gathered)
        out.append(encode(reply, protocol))
        return 0
    if before == 0:
        gathered.out_size = PyList_GET_SIZE(out)
    try:
        put_value(&gathered.replies, reply, protocol)
    except:
        gathered.replies.size = before
        raise
    if gathered.replies.size >= SMALL_BYTES:
        hand_on_replies(out, gathered)
    return 0


cdef int gather_stream(object propagation, Gathered *gathered, long long db, argv) except -1:
    if gathered.stream.size and (gathered.db != db or gathered.stream.size >= SMALL_BYTES):
        hand_on_stream(propagation, gathered)
    gathered.db = db
    put_command(&gathered.stream, argv)
    return 0


# ------------------------------------------------------------------- one command


cdef inline PyObject *admitted(
    PyObject *engine, PyObject *client, dict spellings, list argv
) except? NULL:
    """The command that argv calls, where nothing is in its way; NULL otherwise."""
    cdef Py_ssize_t count = PyList_GET_SIZE(argv)
    cdef long long raised
    cdef PyObject *command
    if count == 0:
        return NULL
    command = PyDict_GetItemWithError(spellings, <object> PyList_GET_ITEM(argv, 0))
    if command == NULL or <PyObject *> Py_TYPE(<object> command) != <PyObject *> Command:
        return NULL
    if count < get_int(command, COMMAND_LEAST) or count > get_int(command, COMMAND_MOST):
        return NULL
    if dict_size(get_slot(command, COMMAND_SUBCOMMANDS)):
        return NULL
    raised = get_int(engine, ENGINE_GATES) | get_int(client, CLIENT_GATES)
    if raised:
        raised &= ~get_int(client, CLIENT_EXEMPT) & get_int(command, COMMAND_MASK)
        if raised and (
            raised != ACL
            or (<object> engine).acl.denial(<object> client, <object> command, argv) is not None
        ):
            return NULL
    return command


cdef inline object call(object engine, object client, object command, list argv):
    """Run the handler; an error that it raises is its reply."""
    try:
        return (<object> get_slot(<PyObject *> command, COMMAND_HANDLER))(client, argv)
    except CommandError as error:
        add_int(<PyObject *> command, COMMAND_FAILED, 1)
        engine.stats.error(error)
        return error
    except Exception as error:
        return engine.fault(client, command, argv, error)


cdef inline int count(object command, long long spent) except -1:
    """The same as Command.count."""
    cdef list spans = <list> get_slot(<PyObject *> command, COMMAND_SPANS)
    cdef int shift = 0
    cdef long long bucket
    if not spans:
        spans.extend(EMPTY)
    while spent >> shift >= 32:
        shift += 1
    bucket = min(16 * shift + (spent >> shift), BUCKETS - 1)
    spans[bucket] = <long long> spans[bucket] + 1
    add_int(<PyObject *> command, COMMAND_CALLS, 1)
    return add_int(<PyObject *> command, COMMAND_NANOSECONDS, spent)


cdef int propagate(
    PyObject *propagation, PyObject *client, Gathered *gathered, list argv, bint plain,
    bint dirtied,
) except -1:
    """Note what a command propagates, after it changed something or said how to send it."""
    cdef bint unusual = (
        not is_none(get_slot(propagation, PROPAGATION_INSTEAD))
        or get_int(propagation, PROPAGATION_FORCED) != 0
        or get_int(propagation, PROPAGATION_ONLY) != BOTH
    )
    cdef long long db
    if not dirtied and not unusual:
        return 0
    db = get_int(get_slot(client, CLIENT_DB), DATABASE_INDEX)
    if (
        plain
        and not unusual
        and list_size(get_slot(propagation, PROPAGATION_OPS)) == 0
        and get_slot(propagation, PROPAGATION_WRAP) == Py_True
    ):
        if get_int(propagation, PROPAGATION_TARGETS):
            gather_stream(<object> propagation, gathered, db, argv)
    else:
        (<object> propagation).ended(db, argv, dirtied)
    return 0


cdef inline bint dirtier(PyObject *keyspace, object dirty) except -1:
    """Whether the dataset is dirtier than it was (SAVE makes it less so). Mostly the very same int
    stands there."""
    cdef PyObject *now = get_slot(keyspace, KEYSPACE_DIRTY)
    return now != <PyObject *> dirty and <object> now > dirty


cdef int begin(Gathered *gathered, char *replies, char *stream, Py_ssize_t room) except -1:
    gathered.replies.data, gathered.replies.capacity = replies, room
    gathered.stream.data, gathered.stream.capacity = stream, room
    gathered.replies.size = gathered.stream.size = 0
    gathered.replies.heap = gathered.stream.heap = NULL
    gathered.db = gathered.out_size = 0
    return 0


cdef int end(Gathered *gathered) except -1:
    PyMem_Free(gathered.replies.heap)
    PyMem_Free(gathered.stream.heap)
    return 0


cdef int know_engine() except -1:
    """Look the slots of the engine up, once."""
    global ENGINE, ENGINE_BLOCKING, ENGINE_BUDGET_NS, ENGINE_CLOCK, ENGINE_GATES
    global ENGINE_KEYSPACE, ENGINE_PROPAGATION, ENGINE_SLOW_NS, ENGINE_SPELLINGS, ENGINE_STATS
    global ENGINE_TIMED_NS, ENGINE_WRITERS
    from kvrepl.engine.dispatch import Engine

    ENGINE_BLOCKING = slot_offset(Engine, "blocking")
    ENGINE_BUDGET_NS = slot_offset(Engine, "budget_ns")
    ENGINE_CLOCK = slot_offset(Engine, "clock")
    ENGINE_GATES = slot_offset(Engine, "gates")
    ENGINE_KEYSPACE = slot_offset(Engine, "keyspace")
    ENGINE_PROPAGATION = slot_offset(Engine, "propagation")
    ENGINE_SLOW_NS = slot_offset(Engine, "slow_ns")
    ENGINE_SPELLINGS = slot_offset(Engine, "spellings")
    ENGINE_STATS = slot_offset(Engine, "stats")
    ENGINE_TIMED_NS = slot_offset(Engine, "timed_ns")
    ENGINE_WRITERS = slot_offset(Engine, "writers")
    ENGINE = Engine
    return 0


cdef int check_types(engine, client) except -1:
    """Slots are read by offset: nobody else's objects may come here."""
    cdef PyObject *self = <PyObject *> engine
    if ENGINE is None:
        know_engine()
    if not (
        isinstance(engine, ENGINE)
        and type(client) is Client
        and type(<object> get_slot(self, ENGINE_KEYSPACE)) is Keyspace
        and type(<object> get_slot(self, ENGINE_PROPAGATION)) is Propagation
        and type(<object> get_slot(self, ENGINE_BLOCKING)) is Blocking
        and type(<object> get_slot(self, ENGINE_STATS)) is Stats
        and type(<object> get_slot(self, ENGINE_WRITERS)) is list
    ):
        raise TypeError("the compiled loops take the engine's own classes only")
    return 0


# ----------------------------------------------------------------------- the loops


def run(engine, client, list requests not None, Py_ssize_t start=0):
    """Run requests of one client; see kvrepl.engine.batch.run_reference."""
    check_types(engine, client)
    return run_all(engine, client, requests, start)


def serve(engine, client, RequestParser parser not None, bytes data not None):
    """Run what a client's bytes complete; see kvrepl.engine.batch.serve_reference."""
    cdef list requests
    cdef Py_ssize_t done = 0, total
    check_types(engine, client)
    add_int(get_slot(<PyObject *> engine, ENGINE_STATS), STATS_NET_IN_BYTES, PyBytes_GET_SIZE(data))
    add_int(get_slot(<PyObject *> engine, ENGINE_STATS), STATS_READS, 1)
    requests = parser.take(data)
    total = PyList_GET_SIZE(requests)
    if total:
        done = run_all(engine, client, requests, 0)
    else:
        client.last_interaction_ms = engine.keyspace.now_ms
    if done == total and parser.error is None and parser.authenticated:
        return None
    return requests[done:]


cdef Py_ssize_t run_all(engine, client, list requests, Py_ssize_t start) except -1:
    cdef char replies[4096]
    cdef char stream[4096]
    cdef Gathered gathered
    cdef Py_ssize_t done = start, total = PyList_GET_SIZE(requests)
    cdef long long began, before, now, spent, slow_ns, budget_ns
    cdef PyObject *found
    cdef PyObject *wait
    cdef bint plain, dirtied
    cdef list argv, out
    cdef object keyspace, propagation, blocking, spellings, monotonic_ns, command, dirty, reply
    keyspace = <object> get_slot(<PyObject *> engine, ENGINE_KEYSPACE)
    propagation = <object> get_slot(<PyObject *> engine, ENGINE_PROPAGATION)
    blocking = <object> get_slot(<PyObject *> engine, ENGINE_BLOCKING)
    spellings = <object> get_slot(<PyObject *> engine, ENGINE_SPELLINGS)
    monotonic_ns = (<object> get_slot(<PyObject *> engine, ENGINE_CLOCK)).monotonic_ns
    slow_ns = get_int(<PyObject *> engine, ENGINE_SLOW_NS)
    budget_ns = get_int(<PyObject *> engine, ENGINE_BUDGET_NS)
    out = <object> get_slot(<PyObject *> client, CLIENT_OUT)
    stir(<PyObject *> engine, <PyObject *> client)
    began = before = now_ns(monotonic_ns)
    if began - get_int(<PyObject *> engine, ENGINE_TIMED_NS) >= FRESH_NS:
        engine.timed_ns = began
        engine.take_time()
    keep(<PyObject *> client, CLIENT_LAST_INTERACTION_MS, get_slot(<PyObject *> keyspace, KEYSPACE_NOW_MS))
    begin(&gathered, replies, stream, sizeof(replies))
    try:
        while done < total:
            argv = requests[done]
            found = admitted(<PyObject *> engine, <PyObject *> client, spellings, argv)
            plain = found != NULL and get_slot(found, COMMAND_PLAIN) == Py_True
            if not plain:
                hand_on_stream(propagation, &gathered)
                hand_on_replies(out, &gathered)
            if found == NULL:
                reply = engine.careful(client, argv)
                wait = get_slot(<PyObject *> client, CLIENT_WAIT)
                if not is_none(wait) and (<object> wait).kind == POSTPONED:
                    break  # it is run again when it is let go
                before = now_ns(monotonic_ns)
                slow_ns, budget_ns = engine.slow_ns, engine.budget_ns  # CONFIG SET changes them
            else:
                command = <object> found
                dirty = <object> get_slot(<PyObject *> keyspace, KEYSPACE_DIRTY)
                keep(<PyObject *> client, CLIENT_LAST_COMMAND, found)
                reply = call(engine, client, command, argv)
                now = now_ns(monotonic_ns)
                spent = now - before
                before = now
                if reply is BLOCKED:
                    engine.waits(client, command, argv, spent)
                else:
                    count(command, spent)
                    if spent >= slow_ns:
                        engine.slow(client, command, argv, spent)
                dirtied = dirtier(<PyObject *> keyspace, dirty)
                propagate(
                    <PyObject *> propagation, <PyObject *> client, &gathered, argv, plain, dirtied
                )
            done += 1
            if reply is not BLOCKED and reply is not NO_REPLY:
                gather_reply(
                    out, &gathered, reply, get_int(<PyObject *> client, CLIENT_RESP)
                )
            if list_size(get_slot(<PyObject *> propagation, PROPAGATION_OPS)):
                hand_on_stream(propagation, &gathered)
                propagation.flush()
            if dict_size(get_slot(<PyObject *> blocking, BLOCKING_READY)):
                hand_on_stream(propagation, &gathered)
                blocking.serve_ready()
                propagation.flush()
                before = now_ns(monotonic_ns)
            if (
                not is_none(get_slot(<PyObject *> client, CLIENT_WAIT))
                or get_int(<PyObject *> client, CLIENT_GATES) & CLOSING
            ):
                break
            if before - began >= budget_ns:
                engine.tick()
                break
    finally:
        try:
            hand_on_stream(propagation, &gathered)
            hand_on_replies(out, &gathered)
        finally:
            end(&gathered)
    return done


def apply(engine, client, list commands not None, Py_ssize_t start=0):
    """Run plain commands of a stream; see kvrepl.engine.batch.apply_reference."""
    cdef char replies[1]
    cdef char stream[4096]
    cdef Gathered gathered
    cdef Py_ssize_t number, total = PyList_GET_SIZE(commands)
    cdef long long before, now, spent
    cdef PyObject *found
    cdef list argv
    cdef object keyspace, propagation, blocking, spellings, monotonic_ns, command, dirty, reply
    cdef object mode, inside
    check_types(engine, client)
    keyspace = <object> get_slot(<PyObject *> engine, ENGINE_KEYSPACE)
    propagation = <object> get_slot(<PyObject *> engine, ENGINE_PROPAGATION)
    blocking = <object> get_slot(<PyObject *> engine, ENGINE_BLOCKING)
    spellings = <object> get_slot(<PyObject *> engine, ENGINE_SPELLINGS)
    monotonic_ns = (<object> get_slot(<PyObject *> engine, ENGINE_CLOCK)).monotonic_ns
    mode = keyspace.expiry_mode
    inside = IGNORE if client.is_master else mode
    if blocking.waiting:
        total = min(total, start + 1)
    begin(&gathered, replies, stream, sizeof(stream))
    before = now_ns(monotonic_ns)
    keyspace.expiry_mode = inside
    try:
        for number in range(start, total):
            argv = (<tuple?> commands[number])[0]
            found = admitted(<PyObject *> engine, <PyObject *> client, spellings, argv)
            if found == NULL or get_slot(found, COMMAND_PLAIN) != Py_True:
                return number, None
            command = <object> found
            dirty = <object> get_slot(<PyObject *> keyspace, KEYSPACE_DIRTY)
            keep(<PyObject *> client, CLIENT_LAST_COMMAND, found)
            reply = call(engine, client, command, argv)
            now = now_ns(monotonic_ns)
            spent = now - before
            before = now
            count(command, spent)
            if spent >= get_int(<PyObject *> engine, ENGINE_SLOW_NS):
                engine.slow(client, command, argv, spent)
            propagate(
                <PyObject *> propagation, <PyObject *> client, &gathered, argv, True,
                dirtier(<PyObject *> keyspace, dirty),
            )
            if list_size(get_slot(<PyObject *> propagation, PROPAGATION_OPS)):
                hand_on_stream(propagation, &gathered)
                propagation.flush()
            if dict_size(get_slot(<PyObject *> blocking, BLOCKING_READY)):
                hand_on_stream(propagation, &gathered)
                keyspace.expiry_mode = mode
                engine.settle()
                keyspace.expiry_mode = inside
                before = now_ns(monotonic_ns)
            if type(reply) is CommandError:
                return number + 1, reply
        return max(start, total), None
    finally:
        keyspace.expiry_mode = mode
        try:
            hand_on_stream(propagation, &gathered)
        finally:
            end(&gathered)
