"""Large pages: the memory that a process begins with, on pages of 2 MiB instead of 4 KiB.

A call touches objects all over the heap. Finding where a page of it lies takes a processor longer than much of the
work, most of all in a virtual machine, where each look-up is two; one large page stands for 512 of these look-ups.

Source: madvise(2), `MADV_HUGEPAGE` and `MADV_COLLAPSE` (Linux 6.1); the kernel's "Transparent Hugepage Support";
proc(5), `/proc/pid/smaps`.
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path

LARGE_PAGE_BYTES = 2 * 1024 * 1024
MADV_HUGEPAGE = 14
MADV_COLLAPSE = 25

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_MAPS = Path("/proc/self/smaps")


def gather() -> int:
    """Asks the kernel to put the heap of this process on large pages: what is there now at once, where it can, and what
    the same areas grow by later. Returns how many bytes it was asked for: 0 on a system without large pages, or whose
    operator has turned them off. A kernel that does not do it leaves the memory as it is."""
    if not _are_allowed():
        return 0
    advise = ctypes.CDLL(None).madvise
    asked_bytes = 0
    for start, size in list(_heap(_MAPS.read_text())):
        for advice in (MADV_HUGEPAGE, MADV_COLLAPSE):
            advise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice)
        asked_bytes += size
    return asked_bytes


def _are_allowed() -> bool:
    try:
        return "[never]" not in _SETTING.read_text()
    except OSError:
        return False


def _heap(smaps: str) -> Iterator[tuple[int, int]]:
    """Start and size in bytes of each area of private memory that holds a large page at least and is in use for the
    most part: the stacks of threads are not, and would be filled."""
    start = size = 0
    for line in smaps.splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):  # 7f1c00000000-7f1c00400000 rw-p 00000000 00:00 0   [heap]
            begins, _, ends = first.partition("-")
            start, size = int(begins, 16), int(ends, 16) - int(begins, 16)
            is_heap = rest[0] == "rw-p" and rest[3] == "0" and rest[4:] in ([], ["[heap]"])
            size = size if is_heap else 0
        elif first == "Rss:" and size >= LARGE_PAGE_BYTES and int(rest[0]) * 1024 >= size * 3 // 4:
            yield start, size
