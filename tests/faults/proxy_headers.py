"""Headers of the PROXY protocol (HAProxy's doc/proxy-protocol.txt), versions 1 and 2."""

import ipaddress
import struct

from support.tickstream_client import crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21
TLV_CRC32C = 0x03
DESTINATIONS = {4: "192.0.2.1", 6: "2001:db8:ffff::1"}


def version_1(source, port=40_000):
    address = ipaddress.ip_address(source)
    destination = DESTINATIONS[address.version]
    return f"PROXY TCP{address.version} {source} {destination} {port} 7400\r\n".encode()


def version_2(source, port=40_000, tlvs=b"", command=PROXY):
    address = ipaddress.ip_address(source)
    destination = ipaddress.ip_address(DESTINATIONS[address.version])
    block = address.packed + destination.packed + struct.pack(">HH", port, 7400) + tlvs
    return fixed_part(command, TCP4 if address.version == 4 else TCP6, len(block)) + block


def fixed_part(command, protocol, length):
    return SIGNATURE + struct.pack(">BBH", command, protocol, length)


def checked(source, wrong=0):
    """A header of version 2 with its own checksum; with `wrong`, another one."""
    field = struct.pack(">BHI", TLV_CRC32C, 4, 0)
    header = version_2(source, tlvs=field)
    return header[:-4] + struct.pack(">I", crc32c(header) ^ wrong)
