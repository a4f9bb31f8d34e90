"""A folder that nothing leads out of. All calls block; they may come on any thread.

Paths are walked part by part, each opened relative to the one before and without following symbolic links (``openat``
with ``O_NOFOLLOW``). So it makes no difference what others change in the folder meanwhile.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from ..error import ErrorKind

__all__ = ["Folder", "FolderProblem", "Stopped"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that nobody writes to would be waited for.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1024 * 1024
_OUTSIDE: Final = "the path leads out of the folder"
_TAKEN: Final = "there is a file where the path has a folder, or a folder where it has a file"


class FolderProblem(Exception):
    """It cannot be done: ``kind`` and a sentence that names no path of the machine."""

    def __init__(self, kind: ErrorKind, what: str) -> None:
        super().__init__(kind, what)
        self.kind = kind
        self.what = what


class Stopped(Exception):
    """Nobody wants it any more."""


class Folder:
    """``root`` is made when something is written first. ``most``: bytes of a file."""

    def __init__(self, root: str, most: int) -> None:
        self._root = root
        self._most = most

    @property
    def most(self) -> int:
        """Bytes of a file."""
        return self._most

    def check(self, path: str) -> None:
        """See whether a file may have this path, without looking at what is there.

        :raises FolderProblem: FORBIDDEN.
        """
        _parts(path)

    def read(self, path: str, stopped: Callable[[], bool]) -> bytes:
        """The content of a regular file.

        :raises FolderProblem: FORBIDDEN, NOT_FOUND, or INTERNAL where the file is larger than it may be.
        :raises Stopped: ``stopped`` said so.
        :raises OSError: anything else.
        """
        *folders, name = _parts(path)
        with self._opened(folders, make=False) as folder:
            try:
                file = os.open(name, _READ, dir_fd=folder)
            except OSError as problem:
                raise _judged(problem, name, folder) from None
            try:
                return self._content(file, stopped)
            finally:
                os.close(file)

    def write(self, path: str, content: bytes, stopped: Callable[[], bool]) -> None:
        """Put a file there, as a whole or not at all, and have it on the disk.

        :raises FolderProblem: FORBIDDEN; CONFLICT, where a folder is, or a file where a folder is needed;
            PAYLOAD_TOO_LARGE; UNPROCESSABLE, for a name that is too long.
        :raises Stopped: ``stopped`` said so; nothing has changed.
        :raises OSError: anything else; nothing has changed.
        """
        if len(content) > self._most:
            raise FolderProblem(ErrorKind.PAYLOAD_TOO_LARGE, f"the content is larger than {self._most} bytes")
        with self.writing(path, stopped) as put:
            rest = memoryview(content)
            while rest:
                put(rest[:_CHUNK])
                rest = rest[_CHUNK:]

    @contextmanager
    def writing(self, path: str, stopped: Callable[[], bool]) -> Iterator[Callable[[bytes | memoryview], None]]:
        """As :meth:`write`, piece by piece: gives what takes them. The file is there when the block ends well. Who puts
        pieces bounds them, by :attr:`most`."""
        *folders, name = _parts(path)
        with self._opened(folders, make=True) as folder:
            _check_replaceable(name, folder)
            with _replacing(folder, name, stopped) as put:
                yield put

    def _content(self, file: int, stopped: Callable[[], bool]) -> bytes:
        mode = os.fstat(file).st_mode
        if stat.S_ISDIR(mode):
            raise FolderProblem(ErrorKind.NOT_FOUND, "there is no such file")
        if not stat.S_ISREG(mode):
            raise FolderProblem(ErrorKind.FORBIDDEN, "it is no regular file")
        chunks, size = [], 0
        while chunk := os.read(file, _CHUNK):  # it may grow; so its size says little
            chunks.append(chunk)
            size += len(chunk)
            if size > self._most:
                raise FolderProblem(ErrorKind.INTERNAL, f"the file is larger than {self._most} bytes")
            if stopped():
                raise Stopped
        return b"".join(chunks)

    @contextmanager
    def _opened(self, folders: list[str], *, make: bool) -> Iterator[int]:
        if make:
            os.makedirs(self._root, exist_ok=True)
        try:
            folder = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)  # its own path is the configuration's
        except FileNotFoundError:
            raise FolderProblem(ErrorKind.NOT_FOUND, "there is no such file") from None
        try:
            for name in folders:
                try:
                    if make:
                        with suppress(FileExistsError):
                            os.mkdir(name, dir_fd=folder)
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                except OSError as problem:
                    raise _judged(problem, name, folder, writing=make) from None
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


@contextmanager
def _replacing(folder: int, name: str, stopped: Callable[[], bool]) -> Iterator[Callable[[bytes | memoryview], None]]:
    passing = f".{secrets.token_hex(16)}.tmp"
    file = os.open(passing, _NEW, 0o666, dir_fd=folder)

    def put(piece: bytes | memoryview) -> None:
        rest = memoryview(piece)
        while rest:
            if stopped():
                raise Stopped
            rest = rest[os.write(file, rest) :]

    try:
        try:
            yield put
            os.fsync(file)
        finally:
            os.close(file)
        if stopped():
            raise Stopped
        try:
            os.replace(passing, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as problem:
            raise _judged(problem, name, folder, writing=True) from None
    except BaseException:
        with suppress(OSError):
            os.unlink(passing, dir_fd=folder)
        raise
    os.fsync(folder)


def _check_replaceable(name: str, folder: int) -> None:
    try:
        mode = os.lstat(name, dir_fd=folder).st_mode
    except FileNotFoundError:
        return
    except OSError as problem:
        raise _judged(problem, name, folder, writing=True) from None
    if stat.S_ISDIR(mode):
        raise FolderProblem(ErrorKind.CONFLICT, _TAKEN)
    if not stat.S_ISREG(mode):
        raise FolderProblem(ErrorKind.FORBIDDEN, _OUTSIDE)


def _parts(path: str) -> list[str]:
    """The names on a path.

    :raises FolderProblem: FORBIDDEN: it leads upwards or begins at ``/``, names no file, or is no text that names could
        be of.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    surrogate = any("\ud800" <= c <= "\udfff" for c in path)
    if path.startswith("/") or ".." in parts or "\0" in path or surrogate:
        raise FolderProblem(ErrorKind.FORBIDDEN, _OUTSIDE)
    if not parts or path.endswith(("/", "/.")):
        raise FolderProblem(ErrorKind.FORBIDDEN, "the path names no file")
    return parts


def _judged(problem: OSError, name: str, folder: int, writing: bool = False) -> Exception:
    """What the error of one part of a path means; itself, where it means nothing more."""
    code = problem.errno
    if code in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
        with suppress(OSError):
            if stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode):
                return FolderProblem(ErrorKind.FORBIDDEN, _OUTSIDE)
    if code == errno.ENAMETOOLONG and writing:
        return FolderProblem(ErrorKind.UNPROCESSABLE, "a name in the path is too long")
    if code in (errno.ENOTDIR, errno.EISDIR) and writing:
        return FolderProblem(
            ErrorKind.CONFLICT, "there is a file where the path has a folder, or a folder of that name"
        )
    if code in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO):
        kind = ErrorKind.FORBIDDEN if code == errno.ENXIO else ErrorKind.NOT_FOUND  # ENXIO: a socket
        return FolderProblem(kind, "there is no such file" if kind is ErrorKind.NOT_FOUND else "it is no regular file")
    return problem
