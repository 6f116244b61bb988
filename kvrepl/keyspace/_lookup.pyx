# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The hot methods of kvrepl.keyspace.database.Database, compiled.

Each does what the Python method of its name does; see there. `bind` puts them in their place in
the class, which stays a plain Python class with its slots (kvrepl/_slots.pxd). What is unusual (a
key whose time may have come, a watched key, a notification) goes on in Python.

Optional: kvrepl.keyspace.keyspace binds it where it was built.
"""

from cpython.bytearray cimport PyByteArray_CheckExact
from cpython.bytes cimport PyBytes_Check, PyBytes_CheckExact
from cpython.dict cimport (
    PyDict_Contains, PyDict_DelItem, PyDict_GetItemWithError, PyDict_Next, PyDict_SetItem,
)
from cpython.list cimport PyList_Append, PyList_GET_SIZE
from cpython.object cimport PyObject, PyObject_Hash
from cpython.ref cimport Py_INCREF

from kvrepl._slots cimport add_int, get_int, get_slot, set_slot, slot_offset

from kvrepl.config.notify import NOTIFY_KEY_MISS as _NOTIFY_KEY_MISS
from kvrepl.config.notify import NOTIFY_NEW as _NOTIFY_NEW
from kvrepl.datatypes.collection import Collection
from kvrepl.errors import WRONGTYPE
from kvrepl.keyspace import segments as _segments

cdef extern from "Python.h":
    """
    #define base_of(object) ((PyObject *)Py_TYPE(object)->tp_base)
    """
    PyObject *base_of(PyObject *)
    char *bytearray_data "PyByteArray_AS_STRING"(PyObject *)
    Py_ssize_t bytearray_size "PyByteArray_GET_SIZE"(PyObject *)
    PyObject *Py_False
    PyObject *Py_True
    Py_ssize_t dict_size "PyDict_GET_SIZE"(PyObject *)
    PyObject *list_item "PyList_GET_ITEM"(PyObject *, Py_ssize_t)

cdef long long NOTIFY_KEY_MISS = _NOTIFY_KEY_MISS
cdef long long NOTIFY_NEW = _NOTIFY_NEW
cdef int FINEST_BITS = _segments.FINEST_BITS
cdef long long PASSED_MAX = _segments.PASSED_MAX
COUNT_MAX = 1 << 40  # of SCAN: more keys than there ever are, and no sum of it overflows

cdef object DATABASE = None
cdef object KEYSPACE = None
cdef Py_ssize_t ACCESSED, BLOCKED_KEYS, EXPIRES, EXPIRING, HELD, KEYSPACE_OF, LOOSE, MASK
cdef Py_ssize_t REAL, ROOM, SEGMENTS, WATCHED
cdef Py_ssize_t ACCESS, DIRTY, HITS, MISSES, NOTIFY_FLAGS, TRACKING
cdef PyObject *COLLECTION = <PyObject *> Collection
cdef Py_ssize_t TOUCHED = slot_offset(Collection, "touched")

NAMES = (
    "get", "get_packed", "get_for_write", "exists_for_write", "read", "edit", "read_string",
    "edit_string", "set", "changed", "find_idle", "_place", "scan",
)
REFERENCE = {}  # name -> the method that was replaced; the tests compare the two


def bind(database, keyspace):
    """Give the class Database these methods; keyspace is the class Keyspace."""
    global DATABASE, KEYSPACE
    global ACCESSED, BLOCKED_KEYS, EXPIRES, EXPIRING, HELD, KEYSPACE_OF, LOOSE, MASK
    global REAL, ROOM, SEGMENTS, WATCHED
    global ACCESS, DIRTY, HITS, MISSES, NOTIFY_FLAGS, TRACKING
    ACCESSED = slot_offset(database, "accessed")
    BLOCKED_KEYS = slot_offset(database, "blocked_keys")
    EXPIRES = slot_offset(database, "expires")
    EXPIRING = slot_offset(database, "expiring")
    HELD = slot_offset(database, "held")
    KEYSPACE_OF = slot_offset(database, "keyspace")
    LOOSE = slot_offset(database, "loose")
    MASK = slot_offset(database, "mask")
    REAL = slot_offset(database, "real")
    ROOM = slot_offset(database, "room")
    SEGMENTS = slot_offset(database, "segments")
    WATCHED = slot_offset(database, "watched")
    ACCESS = slot_offset(keyspace, "access")
    DIRTY = slot_offset(keyspace, "dirty")
    HITS = slot_offset(keyspace, "hits")
    MISSES = slot_offset(keyspace, "misses")
    NOTIFY_FLAGS = slot_offset(keyspace, "notify_flags")
    TRACKING = slot_offset(keyspace, "tracking")
    DATABASE, KEYSPACE = database, keyspace
    for name in NAMES:
        REFERENCE[name] = getattr(database, name)
        setattr(database, name, globals()[name])
    _segments.halves = halves


cdef inline PyObject *keyspace_of(object db) except NULL:
    """The keyspace of a database; both are of the types whose slots we know, or TypeError."""
    cdef PyObject *keyspace
    if type(db) is not DATABASE:
        raise TypeError("not a Database")
    keyspace = get_slot(<PyObject *> db, KEYSPACE_OF)
    if type(<object> keyspace) is not KEYSPACE:
        raise TypeError("not a Keyspace")
    return keyspace


cdef inline PyObject *segment_of(object db, Py_ssize_t row, object key) except NULL:
    """The dict of a row (SEGMENTS, EXPIRES) that belongs to the key."""
    cdef Py_ssize_t mask = get_int(<PyObject *> db, MASK)
    return list_item(get_slot(<PyObject *> db, row), PyObject_Hash(key) & mask)


cdef inline bint may_be_gone(object db, object key) except -1:
    """Whether the key has a time to live; what that means is for `_gone` to say."""
    cdef PyObject *expires = segment_of(db, EXPIRES, key)
    return dict_size(expires) != 0 and PyDict_Contains(<object> expires, key)


cdef inline bint is_tracked(PyObject *keyspace) noexcept:
    """Whether it is kept when or how often keys are used; the row ACCESSED is there then."""
    return get_slot(keyspace, ACCESS) != <PyObject *> None


cdef object visible(object db, object key, bint for_write):
    """The value, or None where the key is not there for the one who asks."""
    cdef PyObject *value = PyDict_GetItemWithError(
        <object> segment_of(db, SEGMENTS, key), key
    )
    if value == NULL:
        return None
    found = <object> value
    if may_be_gone(db, key) and db._gone(
        key, (<object> segment_of(db, EXPIRES, key))[key], for_write
    ):
        return None
    return found


cdef inline object find(object db, PyObject *keyspace, object key, bint for_write):
    """The same, which counts as a use of the key."""
    found = visible(db, key, for_write)
    if found is not None and is_tracked(keyspace):
        (<object> get_slot(keyspace, ACCESS)).touched(<object> segment_of(db, ACCESSED, key), key)
    return found


cdef inline bint is_collection(PyObject *value) noexcept:
    """Whether a value has the slot TOUCHED: its class is a direct subclass of Collection."""
    return base_of(value) == COLLECTION


cdef inline void touch(PyObject *value) noexcept:
    """Note that a value is used, where it is a collection.

    hot: benchmarks/families, HGET. The look-up has the value's class at hand, and the command will
    look at its slots: no more than a comparison where it was noted before.
    """
    if is_collection(value) and get_slot(value, TOUCHED) != Py_True:
        Py_INCREF(<object> Py_True)
        set_slot(value, TOUCHED, Py_True)


cdef inline object unpacked(object db, object key, object value):
    """What a packed value stands for; any other value as it is, which is a use of it."""
    # Only packed values are of a subclass of bytes.
    if PyBytes_Check(value):
        return value if PyBytes_CheckExact(value) else db._unpack(key, value)
    touch(<PyObject *> value)
    return value


cdef object find_counted(object db, object key):
    """The same for a read command: counts hit or miss."""
    cdef PyObject *keyspace = keyspace_of(db)
    found = find(db, keyspace, key, False)
    if found is not None:
        add_int(keyspace, HITS, 1)
        return found
    add_int(keyspace, MISSES, 1)
    if get_int(keyspace, NOTIFY_FLAGS) & NOTIFY_KEY_MISS:
        (<object> keyspace).notify(NOTIFY_KEY_MISS, b"keymiss", key, db)
    return None


def get(self, key):
    """See kvrepl.keyspace.database.Database.get."""
    return unpacked(self, key, find_counted(self, key))


def get_packed(self, key):
    """See kvrepl.keyspace.database.Database.get_packed."""
    return find_counted(self, key)


def get_for_write(self, key):
    """See kvrepl.keyspace.database.Database.get_for_write."""
    return unpacked(self, key, find(self, keyspace_of(self), key, True))


def exists_for_write(self, key):
    """See kvrepl.keyspace.database.Database.exists_for_write."""
    keyspace_of(self)
    return visible(self, key, True) is not None


def read(self, key, kind):
    """See kvrepl.keyspace.database.Database.read."""
    value = find_counted(self, key)
    if value is None:
        return value
    value = unpacked(self, key, value)
    if type(value) is kind:
        return value
    raise WRONGTYPE


def edit(self, key, kind):
    """See kvrepl.keyspace.database.Database.edit."""
    value = find(self, keyspace_of(self), key, True)
    if value is None:
        return value
    value = unpacked(self, key, value)
    if type(value) is kind:
        return value
    raise WRONGTYPE


def read_string(self, key):
    """See kvrepl.keyspace.database.Database.read_string."""
    value = find_counted(self, key)
    if value is None or PyBytes_CheckExact(value) or PyByteArray_CheckExact(value):
        return value
    raise WRONGTYPE


def edit_string(self, key):
    """See kvrepl.keyspace.database.Database.edit_string."""
    value = find(self, keyspace_of(self), key, True)
    if value is None or PyBytes_CheckExact(value) or PyByteArray_CheckExact(value):
        return value
    raise WRONGTYPE


def set(self, key, value, keep_ttl=False):
    """See kvrepl.keyspace.database.Database.set."""
    cdef PyObject *keyspace = keyspace_of(self)
    cdef PyObject *segment = segment_of(self, SEGMENTS, key)
    cdef PyObject *expires
    cdef Py_ssize_t before
    if may_be_gone(self, key):
        self._gone(key, (<object> segment_of(self, EXPIRES, key))[key], True)
    before = dict_size(segment)
    PyDict_SetItem(<object> segment, key, value)
    if dict_size(segment) != before:
        add_int(<PyObject *> self, HELD, 1)
        if is_tracked(keyspace):
            (<object> get_slot(keyspace, ACCESS)).created(
                <object> segment_of(self, ACCESSED, key), key
            )
        if get_int(keyspace, NOTIFY_FLAGS) & NOTIFY_NEW:
            (<object> keyspace).notify(NOTIFY_NEW, b"new", key, self)
    else:
        expires = segment_of(self, EXPIRES, key)
        if dict_size(expires) and not keep_ttl and PyDict_Contains(<object> expires, key):
            PyDict_DelItem(<object> expires, key)
            add_int(<PyObject *> self, EXPIRING, -1)
        if is_tracked(keyspace) and not keep_ttl:
            (<object> get_slot(keyspace, ACCESS)).touched(
                <object> segment_of(self, ACCESSED, key), key
            )
    if is_collection(<PyObject *> value):
        touch(<PyObject *> value)
        loosen(self, key)
    if dict_size(get_slot(<PyObject *> self, BLOCKED_KEYS)):
        self.signal_ready(key)
    if get_int(<PyObject *> self, HELD) > get_int(<PyObject *> self, ROOM):
        self.grow()


cdef inline int loosen(object db, object key) except -1:
    """Note that a collection that is not packed has come to stand at a key."""
    cdef PyObject *loose = get_slot(<PyObject *> db, LOOSE)
    bytearray_data(loose)[PyObject_Hash(key) & (bytearray_size(loose) - 1)] = 1
    return 0


def find_idle(self, dict segment not None):
    """See kvrepl.keyspace.database.Database.find_idle."""
    cdef PyObject *key
    cdef PyObject *value
    cdef Py_ssize_t at = 0, others = 0
    cdef list idle = []
    while PyDict_Next(segment, &at, &key, &value):
        if not is_collection(value):
            continue
        if get_slot(value, TOUCHED) == Py_True:
            Py_INCREF(<object> Py_False)
            set_slot(value, TOUCHED, Py_False)
            others += 1
        else:
            PyList_Append(idle, <object> key)
    return idle, others


def changed(self, key, kind, event, long long count=1):
    """See kvrepl.keyspace.database.Database.changed."""
    cdef PyObject *keyspace = keyspace_of(self)
    cdef PyObject *watched = get_slot(<PyObject *> self, WATCHED)
    add_int(keyspace, DIRTY, count)
    if dict_size(watched) and PyDict_Contains(<object> watched, key):
        (<object> keyspace).sink.touched(self, key)
    if get_slot(keyspace, TRACKING) != Py_False:
        (<object> keyspace).sink.invalidated(self, key)
    if get_int(keyspace, NOTIFY_FLAGS) & <long long> kind:
        (<object> keyspace).notify(kind, event, key, self)


def _place(self, Py_ssize_t number):
    """See kvrepl.keyspace.segments.Segmented._place."""
    cdef PyObject *segments
    cdef Py_ssize_t i, held
    keyspace_of(self)
    segments = get_slot(<PyObject *> self, SEGMENTS)
    for i in range(get_int(<PyObject *> self, REAL)):
        held = dict_size(list_item(segments, i))
        if number < held:
            return <object> list_item(segments, i), number
        number -= held
    raise IndexError("no key of that number")


def scan(self, cursor, count):
    """See kvrepl.keyspace.segments.Segmented.scan."""
    cdef PyObject *segments
    cdef PyObject *keys
    cdef long long at, wanted, place, load, mask, real, bit, left
    cdef int own_bits, bits, all_bits = 0
    cdef Py_ssize_t before
    cdef bint done = False
    cdef list found = []
    keyspace_of(self)
    segments = get_slot(<PyObject *> self, SEGMENTS)
    mask, real = get_int(<PyObject *> self, MASK), get_int(<PyObject *> self, REAL)
    while mask >> all_bits:
        all_bits += 1
    at = cursor & ((<object> 1 << FINEST_BITS) - 1)
    count = min(count, COUNT_MAX)
    left = count + PASSED_MAX
    while left > 0:
        left -= 1
        place = at & mask
        keys = list_item(segments, place)
        own_bits = all_bits - (place | ((mask + 1) >> 1) >= real)
        bits = own_bits
        while at >> bits:
            bits += 1
        if dict_size(keys):
            load = dict_size(keys) >> (bits - own_bits)
            before = PyList_GET_SIZE(found)
            wanted = max(<long long> count - before, 1)
            while 2 * load > 3 * wanted and bits < FINEST_BITS:
                bits += 1
                wanted *= 2
            add_residue(found, <dict> keys, (1LL << bits) - 1, at)
            done = bits > own_bits and PyList_GET_SIZE(found) > before
        bit = 1LL << bits >> 1
        while at & bit:
            at ^= bit
            bit >>= 1
        at |= bit
        if done or not at or PyList_GET_SIZE(found) >= <long long> count:
            break
    return at, found


cdef int add_residue(list found, dict keys, long long residues, long long residue) except -1:
    """Append the keys whose hash ends in those bits."""
    cdef Py_ssize_t at = 0
    cdef PyObject *key
    cdef PyObject *value
    while PyDict_Next(keys, &at, &key, &value):
        if PyObject_Hash(<object> key) & residues == residue:
            PyList_Append(found, <object> key)
    return 0


def halves(dict keys not None, long long bit):
    """See kvrepl.keyspace.segments.halves."""
    cdef Py_ssize_t at = 0
    cdef PyObject *key
    cdef PyObject *value
    cdef dict stay = {}, move = {}
    while PyDict_Next(keys, &at, &key, &value):
        if PyObject_Hash(<object> key) & bit:
            PyDict_SetItem(move, <object> key, <object> value)
        else:
            PyDict_SetItem(stay, <object> key, <object> value)
    return stay, move
