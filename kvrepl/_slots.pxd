"""Slots of Python objects read in C: for the compiled loops, nothing else.

A class with __slots__ keeps each attribute at a fixed offset in its instances, which its member
descriptor names. `slot_offset` looks it up once, when a compiled module is imported; reading an
attribute is then one load, as it is for the interpreter's own LOAD_ATTR_SLOT. The classes stay
plain Python, and as fast for Python as they were.

Whoever uses an offset has made sure of the object's type before.
"""

from cpython.object cimport PyObject

cdef extern from *:
    """
    #include <Python.h>
    #include <structmember.h>

    static Py_ssize_t slot_offset(PyObject *cls, const char *name) {
        Py_ssize_t offset = -1;
        PyObject *member = PyObject_GetAttrString(cls, name);
        if (member == NULL)
            return -1;
        if (Py_TYPE(member) == &PyMemberDescr_Type
            && ((PyMemberDescrObject *)member)->d_member->type == T_OBJECT_EX)
            offset = ((PyMemberDescrObject *)member)->d_member->offset;
        else
            PyErr_Format(PyExc_TypeError, "%R has no slot %s", cls, name);
        Py_DECREF(member);
        return offset;
    }

    /* A borrowed reference, NULL where the slot is empty. */
    static inline PyObject *get_slot(PyObject *object, Py_ssize_t offset) {
        return *(PyObject **)((char *)object + offset);
    }

    /* Takes over the reference to value. */
    static inline void set_slot(PyObject *object, Py_ssize_t offset, PyObject *value) {
        PyObject **slot = (PyObject **)((char *)object + offset);
        PyObject *old = *slot;
        *slot = value;
        Py_XDECREF(old);
    }

    /* The slot holds an int of this program's making. */
    static inline long long get_int(PyObject *object, Py_ssize_t offset) {
        return PyLong_AsLongLong(get_slot(object, offset));
    }

    static inline int add_int(PyObject *object, Py_ssize_t offset, long long more) {
        PyObject *sum = PyLong_FromLongLong(get_int(object, offset) + more);
        if (sum == NULL)
            return -1;
        set_slot(object, offset, sum);
        return 0;
    }
    """
    Py_ssize_t slot_offset(object cls, const char *name) except -1
    PyObject *get_slot(PyObject *object, Py_ssize_t offset) noexcept
    void set_slot(PyObject *object, Py_ssize_t offset, PyObject *value) noexcept
    long long get_int(PyObject *object, Py_ssize_t offset) noexcept
    int add_int(PyObject *object, Py_ssize_t offset, long long more) except -1
