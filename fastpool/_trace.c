/* _trace.c - the names that a trace calls jobs by: C strings that are never freed, for a ring may outlive what it names.
 *
 * Journey: worker -> [TRACE] -> completion. A name is asked for only while somebody traces, for each call: so known names are
 * found without a lock. The table only grows, up to MOST_NAMES, for a program may make functions for ever.
 *
 * Order pair   N1 -> N2 (release -> acquire): an entry, to who comes to it by its bucket's list.
 */
#include "_bridge.h"

#include <stdlib.h>

#include "fp_trace.h"

enum { MOST_NAMES = 4096, BUCKETS = 1024, LONGEST_NAME = 255 /* bytes */ };

static const char OTHER[] = "(other)";

typedef struct name_entry {
    struct name_entry *next;
    uint64_t hash;
    char text[];
} name_entry;

static fp_atomic(name_entry *) buckets[BUCKETS];
static fp_atomic(uint32_t) count;

/* FNV-1a. */
static uint64_t hash_of(const char *text, size_t length)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    return hash;
}

static const char *find(name_entry *entry, uint64_t hash, const char *text, size_t length)
{
    for (; entry != NULL; entry = entry->next)
        if (entry->hash == hash && strncmp(entry->text, text, length) == 0 && entry->text[length] == 0)
            return entry->text;
    return NULL;
}

static name_entry *new_entry(uint64_t hash, const char *text, size_t length)
{
    name_entry *entry = malloc(sizeof *entry + length + 1);
    if (entry == NULL)
        return NULL;
    entry->hash = hash;
    memcpy(entry->text, text, length);
    entry->text[length] = 0;
    return entry;
}

/* Two threads may come with the same new name: the later one finds the other's when it links its own in. */
static const char *add(fp_atomic(name_entry *) *bucket, uint64_t hash, const char *text, size_t length)
{
    name_entry *first = fp_load(bucket, fp_acquire), *entry;
    if (fp_fetch_add(&count, 1, fp_relaxed) >= MOST_NAMES || (entry = new_entry(hash, text, length)) == NULL) {
        fp_fetch_sub(&count, 1, fp_relaxed);
        return OTHER;
    }
    const char *known;
    do {
        if ((known = find(first, hash, text, length)) != NULL) {
            fp_fetch_sub(&count, 1, fp_relaxed);
            free(entry);
            return known;
        }
        entry->next = first;
    } while (!fp_cas(bucket, &first, entry, fp_acq_rel, fp_acquire)); /* N1 */
    return entry->text;
}

/* A long name is cut, at the beginning of a character. */
static size_t cut(const char *text, size_t length)
{
    if (length <= LONGEST_NAME)
        return length;
    length = LONGEST_NAME;
    while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
        length--;
    return length;
}

const char *py_intern_name(const char *text)
{
    size_t length = cut(text, strlen(text));
    uint64_t hash = hash_of(text, length);
    fp_atomic(name_entry *) *bucket = &buckets[hash % BUCKETS];
    const char *known = find(fp_load(bucket, fp_acquire), hash, text, length); /* N2 */
    return known != NULL ? known : add(bucket, hash, text, length);
}

/* Of a str that may be anything, or no str at all: NULL, and no exception. Takes the reference. */
static const char *intern_str(PyObject *str)
{
    const char *text = str != NULL && PyUnicode_Check(str) ? PyUnicode_AsUTF8(str) : NULL;
    const char *name = text != NULL && text[0] != 0 ? py_intern_name(text) : NULL;
    PyErr_Clear();
    Py_XDECREF(str);
    return name;
}

/* True when to read the attribute runs no code of the user's: no __getattr__ of the type, no property. */
static bool is_plain(PyObject *object, PyObject *attribute)
{
    if (Py_TYPE(object)->tp_getattro != PyObject_GenericGetAttr)
        return false;
    PyObject *found = _PyType_Lookup(Py_TYPE(object), attribute);
    return found == NULL || Py_TYPE(found) == &PyGetSetDescr_Type || Py_TYPE(found) == &PyMemberDescr_Type ||
           Py_TYPE(found)->tp_descr_get == NULL;
}

static PyObject *read_plain(PyObject *object, const char *attribute)
{
    PyObject *name = PyUnicode_InternFromString(attribute);
    PyObject *value = name != NULL && is_plain(object, name) ? PyObject_GetAttr(object, name) : NULL;
    Py_XDECREF(name);
    if (value == NULL)
        PyErr_Clear();
    return value;
}

static bool has_label(PyObject *fn)
{
    PyObject *label = read_plain(fn, "__qualname__");
    Py_XDECREF(label);
    return label != NULL;
}

/* What a functools.partial calls, unless it was given a name of its own, or a bound method: a new reference, or NULL. */
static PyObject *called_by(PyObject *fn)
{
    if (PyMethod_Check(fn))
        return Py_NewRef(PyMethod_GET_FUNCTION(fn));
    for (PyTypeObject *type = Py_TYPE(fn); type != NULL; type = type->tp_base)
        if (strcmp(type->tp_name, "functools.partial") == 0)
            return has_label(fn) ? NULL : read_plain(fn, "func");
    return NULL;
}

static const char *own_name(PyObject *fn)
{
    const char *name = NULL;
    if (PyFunction_Check(fn))
        name = intern_str(Py_NewRef(((PyFunctionObject *)fn)->func_qualname));
    else if (PyType_Check(fn))
        name = intern_str(PyType_GetQualName((PyTypeObject *)fn));
    else if (Py_TYPE(fn) == py_kernel_type)
        name = ((py_kernel_object *)fn)->code->name;
    if (name == NULL)
        name = intern_str(read_plain(fn, "__qualname__"));
    if (name == NULL)
        name = intern_str(read_plain(fn, "__name__"));
    return name != NULL ? name : py_intern_name(py_type_name(fn));
}

const char *py_name_of(PyObject *fn)
{
    enum { DEEPEST = 16 }; /* a partial of a partial, ... */
    Py_INCREF(fn);
    for (int depth = 0; depth < DEEPEST; depth++) {
        PyObject *called = called_by(fn);
        if (called == NULL)
            break;
        Py_SETREF(fn, called);
    }
    const char *name = own_name(fn);
    Py_DECREF(fn);
    return name;
}

const char *py_kernel_name(PyObject *kernel)
{
    return ((py_kernel_object *)kernel)->code->name;
}
