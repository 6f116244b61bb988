# cython: language_level=3
"""Counts the memory that the interpreter has in use, as zmalloc does, and keeps it in huge pages.

CPython takes memory in two ways, and both can be wrapped through its C API:

    large blocks, over 512 bytes    from malloc. A wrapper of the raw domain adds what
                                    malloc_usable_size says to a counter, takes it away at free.
    small blocks                    from pools of 16 KiB in arenas of 1 MiB. The arena allocator
                                    is ours, and knows the arenas; a pool's header tells the size
                                    and the number of its blocks.

So `large_bytes` is exact at any time and costs an addition for each large block. Small blocks are
counted in one of two ways: `survey` reads pool headers, all or a sample of them, and costs nothing
until it is called; between count(True) and count(False) every allocation adds to
a counter, which costs some 2 ns each and makes `small_bytes` exact at any time.

Arenas are cut from regions that ask for huge pages, where the caller wants that: fork(2) then
copies one entry for 2 MiB in place of 512, and is that much shorter. Since Linux 5.8 a write to a
huge page that is shared after a fork splits it, and copies 4 KiB as ever; before, it copied 2 MiB,
which is why databases turn huge pages off. An arena given back is emptied, not unmapped.

Not seen: what was allocated before `install` (its large blocks are, when they are freed) and what
libraries take from malloc directly (Lua, OpenSSL).

The pool header is the interpreter's own affair: its layout was the same from 3.10 to 3.13 and is
probed by `install`, which fails where blocks are not found to be what they must be (PYTHONMALLOC,
another layout, another allocator). The caller then does without.

Optional: kvrepl.server.memory takes it where it was built.

Source: CPython 3.11-3.13, Objects/obmalloc.c (struct pool_header, address_in_range); Redis 7.0
zmalloc.c; madvise(2); Linux mm/huge_memory.c (do_huge_pmd_wp_page); sched_setattr(2).
"""

cdef extern from *:
    """
    #include <malloc.h>
    #include <pthread.h>
    #include <sched.h>
    #include <semaphore.h>
    #include <signal.h>
    #include <stdatomic.h>
    #include <stdint.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    enum { ARENA_SHIFT = 20, POOL_BYTES = 16384, POOL_SIZE_CLASS = 36, SMALL_BYTES = 512,
           CHUNK_HEADER_BYTES = 8, HUGE_PAGE_BYTES = 2 << 20, REGION_BYTES = 32 << 20,
           AHEAD_BYTES = 2 * HUGE_PAGE_BYTES, WORKER_NICE = 10, WORKER_SLICE_NS = 100000 };
    #define ARENA_BYTES ((size_t)1 << ARENA_SHIFT)
    #define MAP_BYTES ((size_t)1 << (47 - ARENA_SHIFT - 3))  /* a bit for each MiB there can be */

    static PyMemAllocatorEx raw_, mem_, object_;  /* what stood there before us */
    static PyObjectArenaAllocator arena_;
    static atomic_llong large;   /* the raw domain is used without the lock of the interpreter */
    static long long small;      /* the others are not */
    static int counting;
    static uint8_t *map;         /* which MiB of the address space are arenas */
    static char **arenas, **idle;  /* those in use, and those given back where they are huge */
    static size_t arena_count, idle_count, arena_room;
    static int huge, has_worker, rests;
    static sem_t wanted;
    static char *_Atomic ahead;    /* what the worker is to fault in next */
    static char *region, *region_end;  /* what was mapped, and is in no arena yet */

    /* ------------------------------------------------------------------ arenas */

    static int in_map(const void *p) {
        uintptr_t mib = (uintptr_t)p >> ARENA_SHIFT;
        return mib >> 3 < MAP_BYTES && map[mib >> 3] >> (mib & 7) & 1;
    }

    static char *map_aligned(size_t size, size_t alignment) {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (p == MAP_FAILED)
            return NULL;
        if (((uintptr_t)p & (alignment - 1)) == 0)
            return p;
        munmap(p, size);
        p = mmap(NULL, size + alignment, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (p == MAP_FAILED)
            return NULL;
        char *start = (char *)(((uintptr_t)p + alignment - 1) & ~(alignment - 1));
        if (start > p)
            munmap(p, start - p);
        if (p + alignment > start)
            munmap(start + size, p + alignment - start);
        return start;
    }

    /* Let every other thread of the machine go before this one: nice, and with short slices, which
       EEVDF (Linux 6.12) takes as the right to interrupt it soon. What is refused is done without. */
    static void stand_back(void) {
        struct {
            uint32_t size, policy;
            uint64_t flags;
            int32_t nice;
            uint32_t priority;
            uint64_t slice_ns, deadline_ns, period_ns;
        } attributes = {.size = 48, .policy = SCHED_OTHER, .nice = WORKER_NICE,
                        .slice_ns = WORKER_SLICE_NS};
        syscall(SYS_sched_setattr, 0, &attributes, 0);
    }

    /* The worker: faults the next huge pages in before they are needed. To clear one takes from
       0.2 ms to several (a virtual machine whose host has not backed it yet), which would else
       be a pause of the loop, and a quarter of the time of a load. Whoever comes first makes the
       page; the other finds it. A child of fork(2) has no worker and does without. */
    static void *work_ahead(void *context) {
        stand_back();
        for (;;) {
            while (sem_wait(&wanted) != 0)
                ;
            /* Page by page: the kernel lets a thread go at the end of a call, not within it. */
            char *page = atomic_load(&ahead);
            for (size_t at = 0; page != NULL && at < AHEAD_BYTES; at += HUGE_PAGE_BYTES)
                madvise(page + at, HUGE_PAGE_BYTES, MADV_POPULATE_WRITE);
        }
        return NULL;
    }

    /* A child of the server writes a snapshot, and ends: a huge page of its own would be 2 MiB for a
       few blocks. Those that it shares stay as they are. */
    static void in_child(void) {
        huge = 0;
    }

    static void start_worker(void) {
        if (!huge || has_worker)
            return;
        sigset_t all, before;
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_atfork(NULL, NULL, in_child);
        if (sem_init(&wanted, 0, 0) != 0 || pthread_attr_init(&attributes) != 0)
            return;
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, 64 << 10);
        sigfillset(&all);  /* signals are for the interpreter's own threads */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        has_worker = pthread_create(&thread, &attributes, work_ahead, NULL) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }

    /* The next MiB that is not used: of huge pages, or a mapping of its own. */
    static char *map_arena(void) {
        if (!huge)
            return map_aligned(ARENA_BYTES, ARENA_BYTES);
        if (idle_count > 0)
            return idle[--idle_count];
        if (region == region_end) {
            char *p = map_aligned(REGION_BYTES, HUGE_PAGE_BYTES);
            if (p == NULL)
                return NULL;
            madvise(p, REGION_BYTES, MADV_HUGEPAGE);  /* refused: small pages, as without us */
            region = p;
            region_end = p + REGION_BYTES;
        }
        char *arena = region;
        region += ARENA_BYTES;
        if (has_worker && !rests && ((uintptr_t)arena & (HUGE_PAGE_BYTES - 1)) == 0) {
            char *next = arena + HUGE_PAGE_BYTES;
            atomic_store(&ahead, next + AHEAD_BYTES <= region_end ? next : NULL);
            sem_post(&wanted);
        }
        return arena;
    }

    static void *arena_alloc(void *context, size_t size) {
        if (size != ARENA_BYTES)
            return arena_.alloc(arena_.ctx, size);
        if (arena_count + idle_count == arena_room) {
            size_t room = arena_room ? 2 * arena_room : 256;
            char **more = realloc(arenas, room * sizeof *arenas);
            if (more == NULL)
                return NULL;
            arenas = more;
            more = realloc(idle, room * sizeof *idle);
            if (more == NULL)
                return NULL;
            idle = more;
            arena_room = room;
        }
        char *p = map_arena();
        if (p == NULL)
            return NULL;
        uintptr_t mib = (uintptr_t)p >> ARENA_SHIFT;
        if (mib >> 3 < MAP_BYTES) {
            map[mib >> 3] |= 1 << (mib & 7);
            arenas[arena_count++] = p;
        }
        return p;
    }

    /* Give a MiB of a huge page back to the system, and keep its place.

       With its other half it is mapped anew: a page that went in two parts has left its table of
       small pages behind, and would never be huge again. */
    static void empty_arena(char *p) {
        char *page = (char *)((uintptr_t)p & ~(uintptr_t)(HUGE_PAGE_BYTES - 1));
        char *other = p == page ? page + ARENA_BYTES : page;
        size_t i = idle_count;
        while (i > 0 && idle[i - 1] != other)
            i--;
        if (i > 0 && mmap(page, HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == page)
            madvise(page, HUGE_PAGE_BYTES, MADV_HUGEPAGE);
        else
            madvise(p, ARENA_BYTES, MADV_DONTNEED);
        idle[idle_count++] = p;
    }

    static void arena_free(void *context, void *p, size_t size) {
        if (!in_map(p)) {
            arena_.free(arena_.ctx, p, size);
            return;
        }
        uintptr_t mib = (uintptr_t)p >> ARENA_SHIFT;
        map[mib >> 3] &= ~(1 << (mib & 7));
        size_t i = 0;
        while (arenas[i] != p)
            i++;
        arenas[i] = arenas[--arena_count];
        if (huge)
            empty_arena(p);
        else
            munmap(p, size);
    }

    /* The size of a small block, 0 for any other. */
    static inline long block_size(const void *p) {
        if (p == NULL || !in_map(p))
            return 0;
        const char *pool = (const char *)((uintptr_t)p & ~(uintptr_t)(POOL_BYTES - 1));
        return (long)(*(const uint32_t *)(pool + POOL_SIZE_CLASS) + 1) * 16;
    }

    static long long pool_bytes(const char *pool) {
        long long blocks = *(const uint32_t *)pool;
        return blocks * ((long long)*(const uint32_t *)(pool + POOL_SIZE_CLASS) + 1) * 16;
    }

    static long long survey_pools(size_t limit) {
        static size_t start;
        const size_t in_arena = ARENA_BYTES / POOL_BYTES, pools = arena_count * in_arena;
        long long total = 0;
        if (pools <= limit) {
            for (size_t i = 0; i < pools; i++)
                total += pool_bytes(arenas[i / in_arena] + i % in_arena * POOL_BYTES);
            return total;
        }
        /* Evenly spread, from another place each time. */
        double step = (double)pools / limit;
        start = (start + 7919) % pools;
        for (size_t i = 0; i < limit; i++) {
            size_t at = (start + (size_t)(i * step)) % pools;
            total += pool_bytes(arenas[at / in_arena] + at % in_arena * POOL_BYTES);
        }
        return (long long)(total * step);
    }

    /* ------------------------------------------------------------ large blocks */

    static inline void add_large(void *p, int sign) {
        if (p != NULL)
            atomic_fetch_add_explicit(
                &large, sign * (long long)(malloc_usable_size(p) + CHUNK_HEADER_BYTES),
                memory_order_relaxed);
    }

    static void *raw_malloc(void *context, size_t size) {
        void *p = raw_.malloc(raw_.ctx, size);
        add_large(p, 1);
        return p;
    }

    static void *raw_calloc(void *context, size_t count, size_t size) {
        void *p = raw_.calloc(raw_.ctx, count, size);
        add_large(p, 1);
        return p;
    }

    static void *raw_realloc(void *context, void *old, size_t size) {
        long long before = old == NULL ? 0 : (long long)malloc_usable_size(old)
            + CHUNK_HEADER_BYTES;
        void *p = raw_.realloc(raw_.ctx, old, size);
        if (p != NULL) {
            atomic_fetch_sub_explicit(&large, before, memory_order_relaxed);
            add_large(p, 1);
        }
        return p;
    }

    static void raw_free(void *context, void *p) {
        add_large(p, -1);
        raw_.free(raw_.ctx, p);
    }

    /* ------------------------------------------------------------ small blocks */

    static void *small_malloc(void *context, size_t size) {
        PyMemAllocatorEx *next = context;
        void *p = next->malloc(next->ctx, size);
        if (size <= SMALL_BYTES)
            small += block_size(p);
        return p;
    }

    static void *small_calloc(void *context, size_t count, size_t size) {
        PyMemAllocatorEx *next = context;
        void *p = next->calloc(next->ctx, count, size);
        small += block_size(p);
        return p;
    }

    static void *small_realloc(void *context, void *old, size_t size) {
        PyMemAllocatorEx *next = context;
        long before = block_size(old);
        void *p = next->realloc(next->ctx, old, size);
        if (p != NULL)
            small += block_size(p) - before;
        return p;
    }

    static void small_free(void *context, void *p) {
        PyMemAllocatorEx *next = context;
        small -= block_size(p);
        next->free(next->ctx, p);
    }

    static void count_small(int wanted) {
        if (wanted == counting)
            return;
        counting = wanted;
        if (wanted) {
            PyMem_GetAllocator(PYMEM_DOMAIN_MEM, &mem_);
            PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &object_);
            PyMemAllocatorEx of_mem = {
                &mem_, small_malloc, small_calloc, small_realloc, small_free};
            PyMemAllocatorEx of_object = {
                &object_, small_malloc, small_calloc, small_realloc, small_free};
            small = survey_pools(SIZE_MAX);
            PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &of_mem);
            PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &of_object);
        } else {
            PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &mem_);
            PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &object_);
        }
    }

    static int wrap(int in_huge_pages) {
        huge = in_huge_pages;
        map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED)
            return -1;
        PyObject_GetArenaAllocator(&arena_);
        PyObjectArenaAllocator ours = {NULL, arena_alloc, arena_free};
        PyObject_SetArenaAllocator(&ours);
        PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw_);
        PyMemAllocatorEx of_raw = {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free};
        PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &of_raw);
        return 0;
    }
    """
    int wrap(int in_huge_pages) except -1
    void start_worker()
    int rests
    void count_small(int wanted)
    long long survey_pools(size_t limit)
    long block_size(const void *block)
    long long large, small
    int counting

from libc.stdint cimport uintptr_t

PROBES = (440, 200, 64, 24)  # lengths of bytes objects, which take 33 bytes more
PROBE_BLOCKS = 8192  # of 440 bytes: three arenas, so that not all are from before
TOLERANCE_BYTES = 16_384  # what else may come and go meanwhile
cdef bint installed = False


cdef bint _is_understood() except -1:
    """Whether small blocks are where, and as large, as this module believes."""
    cdef long long before, blocks
    cdef long size, expected
    held = []
    for length in PROBES:
        expected = (length + 33 + 15) // 16 * 16
        before = survey_pools(<size_t> -1)
        probes = [b"p" * length for _ in range(PROBE_BLOCKS)]
        held.append(probes)
        blocks = 0
        for probe in probes:
            size = block_size(<const void *> <uintptr_t> id(probe))
            if size == expected:
                blocks += 1
            elif size != 0:  # 0: in an arena from before
                return False
        found = survey_pools(<size_t> -1) - before
        if blocks == 0 or abs(found - blocks * expected) > TOLERANCE_BYTES:
            return False
    return True


def install(bint huge_pages=False):
    """Begin to count.

    Args:
        huge_pages: ask for them, for all small blocks from now on.

    Returns:
        Whether that can be done here. If not, nothing is counted, and only this was lost: arenas
        are aligned to their size from now on.
    """
    global installed
    if not installed:
        wrap(huge_pages)
        installed = True
    return _is_understood()


def work_ahead():
    """Have a thread clear huge pages before they are needed; for the process that will serve.

    It holds no lock of ours and takes no signal; nothing where pages are not huge. Children that are
    forked from now on take small pages for what they need themselves.
    """
    start_worker()


def rest(bint wanted):
    """Have that thread clear no pages for the time being, or go on."""
    global rests
    rests = wanted


def count(bint wanted):
    """Count small blocks one by one, or no longer. O(pools) to begin."""
    count_small(wanted)


def large_bytes():
    """Bytes of large blocks that came since `install`, less those that went."""
    return large


def small_bytes():
    """Bytes of small blocks in arenas since `install`; exact while they are counted."""
    return small


def used_bytes():
    """Both together, while small blocks are counted."""
    return large + small


def survey(size_t pools):
    """Bytes of small blocks by reading so many pool headers; exact where there are no more.

    O(pools): some 30 ns each.
    """
    return survey_pools(pools)
