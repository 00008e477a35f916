"""Limits that several processes of one host share: memory in which each word has one writer.

For every limit each process has two words: what it uses, and when the first of it expires. Everybody reads all
words and adds them up; nobody takes a lock on the way of a call. A process that dies leaves its words standing,
so what it sent still counts; its successor, in the same place, takes them over and lets them expire.

Only the directory, from a limit's name to its place, is changed under a lock, when a configuration is loaded. It
is a lock of the operating system on the file, which a dead process cannot keep.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import tempfile
import threading

LIMITS_MAX = 65_536
_WORD = 8
_HEADER_WORDS = 8
_WORDS_PER_PROCESS = 2


class SharedArena:
    """The shared memory of one gateway; every process opens it by the same file descriptor."""

    def __init__(self, descriptor: int, processes: int, own: int) -> None:
        self.descriptor = descriptor
        self._processes = processes
        self._own = own
        self._memory = mmap.mmap(descriptor, _size(processes))
        self._words = memoryview(self._memory).cast("q")
        self._places: dict[str, int] = {}
        # Taking a lock nobody else takes is a full memory barrier: what was announced is seen by all before we look.
        self._barrier = threading.Lock()

    @staticmethod
    def create(processes: int) -> int:
        """Return the descriptor of a new arena; pages that no limit uses take no memory."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("dujiang-limits")
        else:
            file = tempfile.TemporaryFile()  # noqa: SIM115
            descriptor = os.dup(file.fileno())
            file.close()
        os.ftruncate(descriptor, _size(processes))
        os.set_inheritable(descriptor, True)
        return descriptor

    def cell(self, name: str) -> SharedCell:
        """Return the words of a limit; raises ValueError when there are more limits than places."""
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = self._find(name)
        first = _HEADER_WORDS + LIMITS_MAX + place * self._processes * _WORDS_PER_PROCESS
        return SharedCell(self._words, first, self._processes, self._own, self._barrier)

    def open(self) -> None:
        """Say that what earlier processes used has been recalled: calls may be counted from now on."""
        self._words[0] = 1

    @property
    def is_open(self) -> bool:
        """Return whether calls may be counted."""
        return self._words[0] == 1

    def _find(self, name: str) -> int:
        """Return the place of a limit, giving it the next free one if it has none."""
        mark = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True) or 1
        words = self._words
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1)
        try:
            for place in range(LIMITS_MAX):
                known = words[_HEADER_WORDS + place]
                if known == mark:
                    return place
                if known == 0:
                    words[_HEADER_WORDS + place] = mark
                    return place
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1)
        raise ValueError(f"there are more than {LIMITS_MAX} limits; several workers cannot share so many")


class SharedCell:
    """One limit's words; see `dujiang.admission.meters.Cell`."""

    __slots__ = ("_barrier", "_mine", "_others", "_words")

    def __init__(self, words: memoryview, first: int, processes: int, own: int, barrier: threading.Lock) -> None:
        self._words = words
        self._mine = first + own * _WORDS_PER_PROCESS
        self._others = tuple(first + other * _WORDS_PER_PROCESS for other in range(processes) if other != own)
        self._barrier = barrier

    def publish(self, used: int, next_expiry: int) -> None:
        """Say how much this process uses, and when the first of it expires (0: nothing will)."""
        words = self._words
        words[self._mine + 1] = next_expiry
        words[self._mine] = used
        with self._barrier:
            pass

    def others(self) -> int:
        """Return how much all other processes use."""
        words = self._words
        return sum([words[place] for place in self._others])

    def next_expiry(self) -> int:
        """Return when the first use of another process expires, 0 when unknown."""
        words = self._words
        return min((words[place + 1] for place in self._others if words[place + 1]), default=0)

    def inherited(self) -> int:
        """Return what this process's predecessor had in use when it died."""
        return self._words[self._mine]


def _size(processes: int) -> int:
    return _WORD * (_HEADER_WORDS + LIMITS_MAX + LIMITS_MAX * processes * _WORDS_PER_PROCESS)
