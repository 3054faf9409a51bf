"""What a process's memory is made of."""

import os

from slalom.engines.memory_use import MemoryUse, memory_use, parse_smaps

_SMAPS = """\
55b3ebe33000-55b3ebe35000 r--p 00000000 fe:00 260386                     /usr/bin/python3
Size:                  8 kB
Rss:                   8 kB
Pss:                   4 kB
Anonymous:             0 kB
THPeligible:           0
VmFlags: rd mr mw me
7f0000000000-7f0001000000 r--s 00000000 fe:00 1        /models/a model.gguf
Rss:                 100 kB
Pss:                  50 kB
Anonymous:             0 kB
7f0002000000-7f0002001000 rw-p 00000000 fe:00 2        /lib/x.so (deleted)
Rss:                  12 kB
Pss:                  12 kB
Anonymous:             4 kB
7f0003000000-7f0003001000 rw-p 00000000 00:00 0
Rss:                  30 kB
Pss:                  30 kB
Anonymous:            30 kB
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0        [vdso]
Rss:                   4 kB
Pss:                   0 kB
Anonymous:             0 kB
"""


def test_mappings_are_told_apart() -> None:
    use = parse_smaps(_SMAPS)
    assert use == MemoryUse(100 << 10, 38 << 10, 16 << 10, 96 << 10)
    assert use.resident == 154 << 10


def test_a_living_process_has_memory_and_several_have_more() -> None:
    one = memory_use([os.getpid()])
    both = memory_use([os.getpid(), os.getppid()])
    assert one is not None
    assert both is not None
    assert one.private > 1 << 20
    assert one.program > 1 << 20
    assert both.resident > one.resident


def test_processes_that_are_gone_have_none() -> None:
    assert memory_use([]) is None
    assert memory_use([2**22 + 1]) is None
