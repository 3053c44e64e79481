"""Let the test pattern of the kernel's simulated webcam move sideways: DEVICE."""

import fcntl
import struct
import sys

QUERY_CONTROL = 3 << 30 | 68 << 16 | ord("V") << 8 | 36
SET_CONTROL = 3 << 30 | 8 << 16 | ord("V") << 8 | 28
NEXT_CONTROL = 0x8000_0000
MOVE_LEFT = 1

with open(sys.argv[1], "rb+", buffering=0) as device:
    control = 0
    while True:
        query = bytearray(struct.pack("<I", control | NEXT_CONTROL).ljust(68, b"\0"))
        try:
            fcntl.ioctl(device, QUERY_CONTROL, query)
        except OSError:
            sys.exit("the camera has no control 'Horizontal Movement'")
        control = struct.unpack_from("<I", query)[0]
        if query[8:40].rstrip(b"\0") == b"Horizontal Movement":
            fcntl.ioctl(device, SET_CONTROL, bytearray(struct.pack("<Ii", control, MOVE_LEFT)))
            print("moving")
            break
