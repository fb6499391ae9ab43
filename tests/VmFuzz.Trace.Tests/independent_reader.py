"""Reads a trace with the msgpack package and lists its events. Knows the format only from trace-format.md."""
import sys
import zlib

import msgpack

POLYNOMIAL = 0x42F0E1EBA9EA3693
MASK = (1 << 64) - 1


def crc64(data):
    value = 0
    for byte in data:
        value ^= byte << 56
        for _ in range(8):
            value = ((value << 1) ^ POLYNOMIAL) & MASK if value >> 63 else (value << 1) & MASK
    return value


def head_length(before):
    """Bytes of the chunk before its checksum."""
    return len(b"\x96" + b"".join(msgpack.packb(field) for field in before))


def shown(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return value.encode().hex()
    if isinstance(value, list):
        return "[" + ",".join(shown(item) for item in value) + "]"
    return str(value)


def arrays(payload):
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 28)
    unpacker.feed(payload)
    return list(unpacker)


def main(path):
    with open(path, "rb") as file:
        data = file.read()
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 28)
    unpacker.feed(data)
    start = 0
    event = 0
    for number, chunk in enumerate(unpacker):
        kind, sequence, codec, raw_length, checksum, payload = chunk
        at = start + head_length(chunk[:4])
        end = unpacker.tell()
        if crc64(data[start:at] + data[at + 9:end]) != checksum:
            sys.exit(f"chunk {number}: checksum")
        start = end
        if codec == 1:
            payload = zlib.decompress(payload)
        if len(payload) != raw_length or sequence != number:
            sys.exit(f"chunk {number}: length or number")
        content = arrays(payload)
        if kind == 1:
            print("header", shown(content[0]))
        elif kind == 2:
            print("blob", shown(content[0]))
        elif kind in (3, 5):
            retired = {}
            for item in content:
                event_kind, delta, mask = item[:3]
                fields = item[3:]
                keys = [key for key in range(64) if mask >> key & 1]
                if len(keys) != len(fields):
                    sys.exit(f"event {event}: mask")
                vcpu = fields[0] if mask & 1 else 0
                retired[vcpu] = (retired.get(vcpu, 0) + delta) & MASK
                text = " ".join(f"{key}={shown(value)}" for key, value in zip(keys, fields))
                print(event, event_kind, retired[vcpu], text)
                event += 1
        elif kind == 6:
            print("index", shown(content[0]))


main(sys.argv[1])
