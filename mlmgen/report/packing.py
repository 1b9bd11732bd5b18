"""Numbers as few bytes: rounded to codes of one byte, gathered in one block, compressed, and written as text.

A code q stands for (q + d) * step, where the dither d of a row lies in [-1/2, 1/2) and follows from its number: the
error is at most half a step, and rounded values do not pile up on lines in a plot (subtractive dither). Codes that
do not fit in their type are stored apart, after an escape. ``assets/data.js`` is the reader.
"""

import json
import zlib
from collections.abc import Iterable

import numpy as np

# The golden ratio's fraction: multiples of it are spread evenly over [0, 1).
GOLDEN = 0.6180339887498949
TYPES = {"i1": np.int8, "i2": np.int16}
LEVEL, RAW, MEMORY = 7, -15, 9  # of zlib: 9 takes four times as long for 1 %; no header; all the memory it may use
# Noise has no repetitions but of single values, and looking for others costs a tenth.
STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_RLE)
# 13 bits as two of 91 printable characters: a twelfth less than base64, and nothing that means something in HTML.
ALPHABET = bytes(code for code in range(0x21, 0x7F) if code not in b"<>&")
BITS = 13
# Of gzip: deflate, no name, no time, unknown system.
GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"


def dither(rows: np.ndarray) -> np.ndarray:
    """Return a number in [-1/2, 1/2) for every row.

    Parameters
    ----------
    rows : (n,) int
        Number of the row, here of the gene, so that all columns of a gene share it.
    """
    return np.mod((np.asarray(rows, dtype=np.float64) + 1.0) * GOLDEN, 1.0) - 0.5


def quantized(values: np.ndarray, step: float, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the codes of values, (n,) int64; what is not finite has the code of 0."""
    with np.errstate(invalid="ignore"):
        codes = np.rint(np.asarray(values, dtype=np.float64) / step - shift)
    return np.where(np.isfinite(codes), codes, 0.0).astype(np.int64)


def restored(codes: np.ndarray, step: float, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the values that codes stand for, (n,) float64."""
    return (codes + shift) * step


def gaps(places: np.ndarray) -> np.ndarray:
    """Return increasing places as the number of places between one and the next, (n,) int64, the first from -1."""
    return np.diff(np.asarray(places, dtype=np.int64), prepend=-1) - 1


def add(columns: dict[str, np.ndarray], name: str, codes: np.ndarray, kind: str = "i1") -> None:
    """Add a column of codes to a block: what does not fit stands in a column of its own, ``name!``.

    Parameters
    ----------
    columns : dict of str to array
        Changed.
    name : str
    codes : (n,) int
    kind : {"i1", "i2"}
    """
    dtype = TYPES[kind]
    escape = np.iinfo(dtype).min
    fits = (codes > escape) & (codes <= np.iinfo(dtype).max)
    columns[name] = np.where(fits, codes, escape).astype(dtype)
    if not fits.all():
        columns[f"{name}!"] = codes[~fits].astype(np.int32)


def codes_of(columns: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return the codes of a column of a block, (n,) int64."""
    stored = columns[name]
    codes = stored.astype(np.int64)
    if f"{name}!" in columns:
        codes[stored == np.iinfo(stored.dtype).min] = columns[f"{name}!"]
    return codes


def block(header: dict, columns: dict[str, np.ndarray]) -> list[bytes]:
    """Lay out a header and columns: 4 bytes with the length of the header, its JSON, and the columns, little-endian.

    Parameters
    ----------
    header : dict
        For JSON; ``columns`` is added.
    columns : dict of str to array
        int8, int16 or int32.

    Returns
    -------
    list of bytes
        The parts, which are of different kinds.
    """
    listed = [[name, values.dtype.str[1:], len(values)] for name, values in columns.items()]
    text = written({**header, "columns": listed})
    parts = [values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes() for values in columns.values()]
    return [len(text).to_bytes(4, "little") + text, *parts]


def unblock(content: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the header and the columns of a block."""
    start = 4 + int.from_bytes(content[:4], "little")
    header, columns = json.loads(content[4:start]), {}
    for name, kind, n in header["columns"]:
        columns[name] = np.frombuffer(content, dtype=f"<{kind}", count=n, offset=start)
        start += columns[name].nbytes
    return header, columns


def written(content: object) -> bytes:
    """Return the JSON of something, without spaces; NaN is not allowed."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def packed(parts: bytes | Iterable[bytes]) -> str:
    """Return bytes compressed and as text that is harmless in HTML: gzip without a time, then `texted`.

    Parameters
    ----------
    parts : bytes or iterable of bytes
        Each is compressed on its own, as suits it best; together they are one stream.
    """
    parts = [parts] if isinstance(parts, bytes) else list(parts)
    content = b"".join(parts)
    streams = [min((_deflated(part, strategy) for strategy in STRATEGIES), key=len) for part in parts if part]
    end = _deflated(b"", STRATEGIES[0], zlib.Z_FINISH) + zlib.crc32(content).to_bytes(4, "little")
    end += (len(content) & 0xFFFFFFFF).to_bytes(4, "little")
    packed = b"".join([GZIP_HEADER, *streams])
    # Nothing may follow the end of gzip: as many empty pieces as make the text end with its last byte.
    while -8 * (len(packed) + len(end)) % BITS >= 8:
        packed += _deflated(b"", STRATEGIES[0])
    return texted(packed + end)


def texted(content: bytes) -> str:
    """Return bytes as text: 13 bits at a time, the first bit of a byte the highest, as two characters."""
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8))
    bits = np.concatenate([bits, np.zeros(-len(bits) % BITS, dtype=np.uint8)]).reshape(-1, BITS)
    numbers = bits @ (1 << np.arange(BITS - 1, -1, -1))
    pairs = np.stack(np.divmod(numbers, len(ALPHABET)), axis=1).ravel()
    return np.frombuffer(ALPHABET, dtype=np.uint8)[pairs].tobytes().decode("ascii")


def untexted(text: str) -> bytes:
    """Return what `texted` was given, and up to a byte of zeros more."""
    place = np.zeros(256, dtype=np.int64)
    place[list(ALPHABET)] = np.arange(len(ALPHABET))
    pairs = place[np.frombuffer(text.encode("ascii"), dtype=np.uint8)].reshape(-1, 2)
    numbers = pairs @ np.array([len(ALPHABET), 1])
    bits = (numbers[:, None] >> np.arange(BITS - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).ravel()[: bits.size // 8 * 8]).tobytes()


def _deflated(content: bytes, strategy: int, end: int = zlib.Z_FULL_FLUSH) -> bytes:
    """Compress without a header; after a full flush another stream may follow, which refers to nothing before it."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, RAW, MEMORY, strategy)
    return compressor.compress(content) + compressor.flush(end)


def unpacked(text: str) -> bytes:
    """Return what `packed` was given."""
    return zlib.decompressobj(wbits=16 - RAW).decompress(untexted(text))


def rounded(values, digits: int = 3) -> list:
    """Return numbers with so many significant digits, for JSON: None where they are not finite.

    Parameters
    ----------
    values : array-like of float
    digits : int
    """
    return [_short(float(value), digits) for value in np.asarray(values, dtype=np.float64).tolist()]


def _short(value: float, digits: int) -> float | int | None:
    if not np.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short
