"""Seals: checksums behind the end of a file that cover every byte of it, checked where it is read.

The formats leave holes: fletcher32 of HDF5 covers chunks but neither names nor attributes nor small arrays, CRC32 of
zip covers members but not its directory. Readers of both formats ignore what follows their end, so a person opens
a sealed file as ever.
"""

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import numpy as np

from mlmgen.errors import UserError
from mlmgen.io.files import IF_OURS, UNREADABLE

BLOCK = 1 << 18  # bytes that one checksum covers: little more is read than asked for
TRAILER = struct.Struct("<QQ32s8s")  # bytes and blocks sealed; sha256 of the checksums and these two; MAGIC
MAGIC = b"mlmgen\x00\x01"
AGAIN = "Delete it and run again"


def seal(path: str | os.PathLike) -> None:
    """Append the checksums of a file's blocks to it, as the last thing before it gets its name."""
    with open(path, "r+b") as file:
        sums, size = [], 0
        while block := file.read(BLOCK):
            sums.append(zlib.crc32(block))
            size += len(block)
        packed, counts = np.array(sums, dtype="<u4").tobytes(), struct.pack("<QQ", size, len(sums))
        file.write(packed + TRAILER.pack(size, len(sums), hashlib.sha256(packed + counts).digest(), MAGIC))


def is_sealed(path: str | os.PathLike) -> bool:
    """Tell whether a file ends as those that mlmgen has sealed, sound or damaged; False where its end is missing."""
    with open(path, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - len(MAGIC), 0))
        return file.read() == MAGIC


class Sealed(io.RawIOBase):
    """A sealed file for reading: its content without the seal, each block checked when it is first touched.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    UserError
        Where it may not be read, the seal is missing or damaged; when reading, where a block is.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.path, self.place = os.fspath(path), 0
        try:
            self.file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed with this one)
        except PermissionError:
            raise UserError("this file may not be read", self.path, UNREADABLE) from None
        try:
            self.size, self.sums, self.digest = self._read_seal()
        except BaseException:
            self.file.close()
            raise
        self.sound = np.zeros(len(self.sums), dtype=bool)

    def _read_seal(self) -> tuple[int, np.ndarray, str]:
        whole = os.fstat(self.file.fileno()).st_size
        if whole < TRAILER.size:
            raise self._unsealed(f"it is cut after {whole:,} bytes" if whole else "it is empty")
        size, blocks, digest, magic = TRAILER.unpack(self._exactly(whole - TRAILER.size, TRAILER.size))
        if magic != MAGIC:
            raise self._unsealed("its last bytes are missing, or another version of mlmgen wrote it")
        if blocks != -(-size // BLOCK) or size + 4 * blocks + TRAILER.size != whole:
            raise self.damaged(f"it has {whole:,} bytes, which is not what was written")
        packed = self._exactly(size, 4 * blocks)
        if hashlib.sha256(packed + struct.pack("<QQ", size, blocks)).digest() != digest:
            raise self.damaged("its checksums have changed since they were written")
        return size, np.frombuffer(packed, dtype="<u4"), digest.hex()

    def damaged(self, why: str) -> UserError:
        """Word an error about this file."""
        return UserError(f"the file is damaged or not mlmgen's: {why}", self.path, AGAIN)

    def _unsealed(self, why: str) -> UserError:
        return UserError(f"the file is damaged or not mlmgen's: {why}", self.path, IF_OURS)

    def _exactly(self, start: int, length: int) -> bytes:
        parts = []
        while length and (part := os.pread(self.file.fileno(), length, start)):
            parts.append(part)
            start, length = start + len(part), length - len(part)
        if length:
            raise self.damaged(f"it ends at byte {start:,}")
        return b"".join(parts)

    def _check(self, first: int, last: int) -> None:
        """Check the blocks that hold the bytes from `first` up to, without, `last`."""
        for i in range(first // BLOCK, -(-last // BLOCK)):
            if not self.sound[i]:
                start = i * BLOCK
                length = min(BLOCK, self.size - start)
                if zlib.crc32(self._exactly(start, length)) != self.sums[i]:
                    what = f"bytes {start:,} to {start + length:,} have changed since they were written"
                    raise self.damaged(what)
                self.sound[i] = True

    def readable(self) -> bool:
        """Tell that this file can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that this file has places."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the content."""
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def tell(self) -> int:
        """Return the place in the content."""
        return self.place

    def readinto(self, buffer) -> int:
        """Read as much as there is, up to the length of a buffer, and check it."""
        view = memoryview(buffer).cast("B")
        length = max(min(len(view), self.size - self.place), 0)
        if length:
            self._check(self.place, self.place + length)
            view[:length] = self._exactly(self.place, length)
            self.place += length
        return length

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        super().close()


@contextmanager
def hdf5(path: str | os.PathLike) -> Iterator[tuple[h5py.File, str]]:
    """Open a sealed HDF5 file for reading.

    Yields
    ------
    file : h5py.File
    digest : str
        As from `read_digest`.

    Raises
    ------
    UserError
        If it is missing or damaged, also while it is read within the block.
    """
    with _existing(path) as raw, h5py.File(raw, "r") as file:
        yield file, raw.digest


def read_digest(path: str | os.PathLike) -> str:
    """Return 64 hexadecimal digits for the content of a sealed file, without reading it; errors as from `hdf5`."""
    with _existing(path) as raw:
        return raw.digest


def _existing(path: str | os.PathLike) -> Sealed:
    try:
        return Sealed(path)
    except FileNotFoundError:
        raise UserError("there is no such file", str(path), "Run the stage that writes it first") from None


class Failing(io.FileIO):
    """A file for writing with h5py that keeps the first error of the disk and takes the rest without writing it.

    libhdf5 1.14 crashes where a disk is full while it closes a file.
    """

    failure: OSError | None = None

    def write(self, data) -> int:
        """Write all of it, or nothing after an earlier failure."""
        view = memoryview(data).cast("B")
        done = 0
        while self.failure is None and done < len(view):
            try:
                done += super().write(view[done:])
            except OSError as error:
                self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Change the length, unless writing failed."""
        try:
            return self.tell() if self.failure else super().truncate(size)
        except OSError as error:
            self.failure = error
            return self.tell()


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[io.RawIOBase]:
    """Open a file for ``h5py.File(file, "w")``; it is sealed when the block ends without an error.

    Raises
    ------
    OSError
        At the end of the block, where the disk was full or a file may not be so large.
    """
    with Failing(path, "w+") as file:
        try:
            yield file
        finally:
            if file.failure is not None:
                raise file.failure
    seal(path)
