"""CBOR (RFC 8949), as much of it as nodes send each other."""

import struct


class Incomplete(Exception):
    """More bytes are needed."""


class Break:
    """The end of something of indefinite length."""


def head(major, number):
    """The first bytes of an item."""
    for size, code, form in ((1, 24, ">B"), (2, 25, ">H"), (4, 26, ">I"), (8, 27, ">Q")):
        if number < 24:
            return bytes([major << 5 | number])
        if number < 1 << (8 * size):
            return bytes([major << 5 | code]) + struct.pack(form, number)
    raise OverflowError(number)


def encode(value, perl=False):
    """A value as CBOR; `perl` writes texts as byte strings, as Perl does."""
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return head(2 if perl else 3, len(text)) + text
    if isinstance(value, (list, tuple)):
        return head(4, len(value)) + b"".join(encode(item, perl) for item in value)
    pairs = (encode(key, perl) + encode(item, perl) for key, item in value.items())
    return head(5, len(value)) + b"".join(pairs)


def decode(data):
    """The first item, and what is behind it. Raises Incomplete, or ValueError."""
    value, at = item(data, 0)
    return value, data[at:]


def take(data, at, count):
    if at + count > len(data):
        raise Incomplete
    return data[at : at + count], at + count


def item(data, at):
    """The item at a place, and the place behind it."""
    (first,), at = take(data, at, 1)
    major, info = first >> 5, first & 31
    number = info
    if 24 <= info <= 27:
        raw, at = take(data, at, 1 << (info - 24))
        number = int.from_bytes(raw, "big")
    elif 28 <= info <= 30:
        raise ValueError(f"reserved length {info}")
    if info == 31:
        return indefinite(data, at, major)
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    if major in (2, 3):
        raw, at = take(data, at, number)
        return (raw if major == 2 else raw.decode()), at
    if major == 4:
        return collect(data, at, number)
    if major == 5:
        values, at = collect(data, at, 2 * number)
        return dict(zip(map(key, values[::2]), values[1::2])), at
    if major == 6:
        return item(data, at)
    return simple(info, number, at)


def collect(data, at, count):
    values = []
    for _ in range(count):
        value, at = item(data, at)
        values.append(value)
    return values, at


def indefinite(data, at, major):
    if major == 7:
        return Break, at
    values = []
    while True:
        value, at = item(data, at)
        if value is Break:
            break
        values.append(value)
    if major in (2, 3):
        return (b"" if major == 2 else "").join(values), at
    if major == 4:
        return values, at
    if major == 5:
        return dict(zip(map(key, values[::2]), values[1::2])), at
    raise ValueError(f"no indefinite length for type {major}")


def key(value):
    """The key of a map as text, whatever it came as."""
    return value.decode() if isinstance(value, bytes) else value


def simple(info, number, at):
    known = {20: False, 21: True, 22: None, 23: None}
    forms = {25: ">e", 26: ">f", 27: ">d"}
    if info in known:
        return known[info], at
    if info in forms:
        size = 1 << (info - 24)
        return struct.unpack(forms[info], number.to_bytes(size, "big"))[0], at
    raise ValueError(f"simple value {number}")
