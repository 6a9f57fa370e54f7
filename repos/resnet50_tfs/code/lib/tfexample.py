"""``tf.Example`` messages, and the framing of TFRecords, without TensorFlow and without protobuf.

Messages: tensorflow/core/example/example.proto and feature.proto, in protobuf's wire format (protobuf.dev, "Encoding").
Framing: tensorflow/core/lib/io/record_writer.h.
"""

import struct

#: CRC-32C (Castagnoli) of each byte, reflected.
_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    _TABLE.append(_byte)


def split(payload):
    """The messages in a request's body: one that is bare, or those of TFRecords.

    TFRecords are recognized by the checksum of the first record's length. The checksums of the data are not compared:
    that would double the time in Python, and the splitter of the records has compared them.

    Raises:
        ValueError: the records do not end where the body does.
    """
    if len(payload) < 12 or not _is_header(payload, 0):
        return [payload]
    messages = []
    position = 0
    while position < len(payload):
        if not _is_header(payload, position):
            raise ValueError(f"there is no TFRecord at byte {position}")
        start = position + 12
        end = start + struct.unpack_from("<Q", payload, position)[0]
        position = end + 4
        if position > len(payload):
            raise ValueError(f"the TFRecord at byte {start - 12} is cut off")
        messages.append(payload[start:end])
    return messages


def value(example, key):
    """The first bytes of a feature of a serialised ``tf.Example``.

    Raises:
        ValueError: this is not an Example, or it has no such feature, or that has no bytes.
    """
    found = None
    for features in _submessages(memoryview(example), 1):
        for entry in _submessages(features, 1):
            if any(bytes(submessage) == key.encode() for submessage in _submessages(entry, 1)):
                for feature in _submessages(entry, 2):
                    for values in _submessages(feature, 1):
                        found = next(_submessages(values, 1), found)
    if found is None:
        raise ValueError(f"it has no bytes with the key {key!r}")
    return bytes(found)


def _is_header(payload, position):
    """Whether a record's length and its checksum stand at a place."""
    if len(payload) < position + 12:
        return False
    crc = 0xFFFFFFFF
    for byte in payload[position : position + 8]:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    masked = (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF
    return struct.unpack_from("<I", payload, position + 8)[0] == masked


def _submessages(message, number):
    """The content of each field of this number that has a length."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            _, position = _varint(message, position)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        elif kind == 2:
            size, position = _varint(message, position)
            if position + size > len(message):
                raise ValueError(f"a field ends after the message, at byte {position}")
            if tag >> 3 == number:
                yield message[position : position + size]
            position += size
        else:
            raise ValueError(f"wire type {kind} at byte {position} is none of protobuf's")
    if position > len(message):
        raise ValueError("the message is cut off")


def _varint(message, position):
    result = shift = 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError(f"a number is cut off at byte {position}")
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
