"""Memory on large pages, where the system has them."""

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.app import large_pages

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")

_PROCESS = """
from pathlib import Path
from penstock.app import large_pages

def lies_on_large_pages():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))

heap = [bytes(400) for _ in range(100_000)]
before = lies_on_large_pages()
asked = large_pages.gather()
assert heap == [bytes(400)] * 100_000
print(asked, lies_on_large_pages() - before)
"""


@pytest.mark.skipif(
    not _SETTING.exists() or "[never]" in _SETTING.read_text(), reason="this system has no large pages, or they are off"
)
def test_a_heap_that_is_in_use_is_moved_to_large_pages_and_keeps_what_it_holds() -> None:
    said = subprocess.run([sys.executable, "-c", _PROCESS], capture_output=True, text=True, check=True, timeout=60)
    asked_bytes, gained_kib = map(int, said.stdout.split())
    assert asked_bytes > 30 * 1024 * 1024
    assert gained_kib > 0


def test_only_private_memory_that_is_mostly_in_use_is_asked_for() -> None:
    smaps = "\n".join(
        _area(where, rss_kib)
        for where, rss_kib in [
            ("00400000-00800000 rw-p 00000000 00:00 0 [heap]", 4_000),
            ("10000000-10400000 rw-p 00000000 00:00 0", 3_100),
            ("20000000-20800000 rw-p 00000000 00:00 0", 100),  # a thread's stack
            ("30000000-30100000 rw-p 00000000 00:00 0", 1_024),  # too small
            ("40000000-40400000 rw-p 00000000 fe:00 18710 /usr/lib/libexample.so", 4_096),
            ("50000000-50400000 rw-s 00000000 00:01 77 /dev/shm/shared", 4_096),
            ("60000000-60400000 r-xp 00000000 00:00 0", 4_096),
        ]
    )
    four_mib = 4 * 1024 * 1024
    assert list(large_pages._heap(smaps)) == [(0x400000, four_mib), (0x10000000, four_mib)]


def test_a_system_whose_operator_turned_them_off_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "enabled"
    monkeypatch.setattr(large_pages, "_SETTING", setting)
    assert large_pages.gather() == 0
    setting.write_text("always madvise [never]\n")
    assert large_pages.gather() == 0


def _area(where: str, rss_kib: int) -> str:
    return f"{where}\nSize: 4096 kB\nRss: {rss_kib} kB\nAnonHugePages: 0 kB\nVmFlags: rd wr mr mw me ac"
