"""A shared object that keeps every listening socket of a process on loopback, as bytes. This module does no I/O.

Triton 2.51 has an address flag for its HTTP, gRPC and metrics ports, but binds its SageMaker front end to 0.0.0.0
(server/src/main.cc `StartSagemakerService`); TensorFlow Serving has none, and binds to :: and 0.0.0.0
(net_http/server/internal/evhttp_server.cc `StartAcceptingRequests`). Put into ``LD_PRELOAD``, this object answers the
program's ``bind``: an address of 0.0.0.0 becomes 127.0.0.1 (or another one of 127.0.0.0/8), one of :: becomes
::ffff:127.0.0.1, everything else passes as it is.

A developer's machine may have no compiler, so the object is written here, byte by byte: its text reaches for the C
library's ``syscall`` through one relocation, inside the smallest ELF file that the dynamic linker loads (ELF-64 Object
File Format, version 1.5; System V ABI, AMD64 supplement).

Ports on loopback, held from the moment they are chosen until tritonserver listens on them.

tritonserver opens its ports only after all models are loaded, which may take minutes; a free port that was merely
looked up would by then belong to somebody else. A socket that is bound with SO_REUSEADDR and does not listen keeps
everybody else away, yet lets tritonserver bind and listen: its front ends set SO_REUSEADDR too (socket(7)).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import secrets
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Final

from tritonforge.errors import LaunchError

__all__ = [
    "HOST",
    "MACHINE",
    "NAME",
    "choose_unguessable_address",
    "describe_shared_port",
    "hold_ports",
    "is_open",
    "port_in_use_error",
    "shared_object",
]


#: The one machine type that the object runs on, as `platform.machine` names it.
MACHINE: Final = "x86_64"

#: The file name, which ``LD_PRELOAD`` finds on the library path.
NAME: Final = "libtritonforge_loopback.so"

_PAGE: Final = 0x1000

#: Where the text has the address; `shared_object` puts another one in its place.
_ADDRESS: Final = bytes((127, 0, 0, 1))

# int bind(int fd, const struct sockaddr *address, socklen_t length), System V calling convention: edi, rsi, edx.
# `syscall` of the C library is called, not the kernel itself, so that errno is set where the caller looks for it.
_BEFORE_CALL: Final = bytes.fromhex(
    "4883ec28"  #              sub   rsp, 40                 28 bytes for a copy; aligns the stack for the call
    "83fa10"  #                cmp   edx, 16                 sizeof(struct sockaddr_in)
    "7260"  #                  jb    call
    "66833e02"  #              cmp   word ptr [rsi], 2       sin_family is AF_INET
    "7520"  #                  jne   six
    "837e0400"  #              cmp   dword ptr [rsi + 4], 0  sin_addr is INADDR_ANY
    "7554"  #                  jne   call
    "488b06"  #                mov   rax, [rsi]              the caller's structure is const: change a copy of it
    "48890424"  #              mov   [rsp], rax
    "488b4608"  #              mov   rax, [rsi + 8]
    "4889442408"  #            mov   [rsp + 8], rax
    "c74424047f000001"  #      mov   dword ptr [rsp + 4], 0x0100007f   127.0.0.1 in network order
    "eb37"  #                  jmp   copied
    # six:
    "66833e0a"  #              cmp   word ptr [rsi], 10      sin6_family is AF_INET6
    "7534"  #                  jne   call
    "83fa1c"  #                cmp   edx, 28                 sizeof(struct sockaddr_in6)
    "722f"  #                  jb    call
    "488b4608"  #              mov   rax, [rsi + 8]
    "480b4610"  #              or    rax, [rsi + 16]         sin6_addr is in6addr_any
    "7525"  #                  jne   call
    "4889442408"  #            mov   [rsp + 8], rax
    "488b06"  #                mov   rax, [rsi]
    "48890424"  #              mov   [rsp], rax
    "48b80000ffff7f000001"  #  mov   rax, 0x0100007fffff0000   the rest of ::ffff:127.0.0.1 in network order
    "4889442410"  #            mov   [rsp + 16], rax
    "8b4618"  #                mov   eax, [rsi + 24]
    "89442418"  #              mov   [rsp + 24], eax
    # copied:
    "4889e6"  #                mov   rsi, rsp
    # call:
    "89d1"  #                  mov   ecx, edx
    "4889f2"  #                mov   rdx, rsi
    "89fe"  #                  mov   esi, edi
    "bf31000000"  #            mov   edi, 49                 SYS_bind
    "31c0"  #                  xor   eax, eax                no vector registers in a variadic call
    "ff15"  #                  call  [rip + slot of `syscall`]; its four bytes follow
)
_AFTER_CALL: Final = bytes.fromhex(
    "4883c428"  #              add   rsp, 40
    "c3"  #                    ret
)


def shared_object(address: str = "127.0.0.1") -> bytes:
    """The file's content, the same every time; ``address`` is a loopback address of IPv4.

    Two segments are loaded: headers, tables and text (read, execute) and the dynamic section with the one slot (read,
    write); none is both writable and executable.
    """
    strings = b"\0bind\0syscall\0" + NAME.encode() + b"\0"
    headers = 64 + 4 * 56
    hash_at = headers
    # One bucket: every lookup starts at symbol 1 (bind) and goes on to symbol 2 (syscall), whatever its hash.
    hashes = struct.pack("<6I", 1, 3, 1, 0, 2, 0)
    symbols_at = _aligned(hash_at + len(hashes), 8)
    symbols_size = 3 * 24
    relocations_at = symbols_at + symbols_size
    strings_at = relocations_at + 24
    text_at = _aligned(strings_at + len(strings), 16)
    text_size = len(_BEFORE_CALL) + 4 + len(_AFTER_CALL)
    data_at = _aligned(text_at + text_size, 16)
    data_address = data_at + _PAGE  # on a page of its own in memory, at the same offset in it as in the file

    dynamic_entries = (
        (14, strings.index(NAME.encode())),  # DT_SONAME
        (4, hash_at),  # DT_HASH
        (5, strings_at),  # DT_STRTAB
        (10, len(strings)),  # DT_STRSZ
        (6, symbols_at),  # DT_SYMTAB
        (11, 24),  # DT_SYMENT
        (7, relocations_at),  # DT_RELA
        (8, 24),  # DT_RELASZ
        (9, 24),  # DT_RELAENT
        (24, 0),  # DT_BIND_NOW
        (0, 0),  # DT_NULL
    )
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in dynamic_entries)
    slot_address = data_address + len(dynamic)
    data = dynamic + bytes(8)

    function = 0x12  # STB_GLOBAL << 4 | STT_FUNC
    symbols = (
        bytes(24)
        + struct.pack("<IBBHQQ", strings.index(b"bind"), function, 0, 1, text_at, text_size)
        + struct.pack("<IBBHQQ", strings.index(b"syscall"), function, 0, 0, 0, 0)
    )
    relocation = struct.pack("<QQq", slot_address, 2 << 32 | 6, 0)  # symbol 2, R_X86_64_GLOB_DAT
    next_instruction = text_at + len(_BEFORE_CALL) + 4
    before_call = _BEFORE_CALL.replace(_ADDRESS, ipaddress.IPv4Address(address).packed)
    text = before_call + struct.pack("<i", slot_address - next_instruction) + _AFTER_CALL

    identification = b"\x7fELF" + bytes((2, 1, 1, 0)) + bytes(8)  # 64 bits, little-endian, version 1, System V
    header = identification + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0)
    read, write, execute = 4, 2, 1
    load, dynamic_segment, stack = 1, 2, 0x6474E551
    segments = (
        (load, read | execute, 0, 0, text_at + text_size, _PAGE),
        (load, read | write, data_at, data_address, len(data), _PAGE),
        (dynamic_segment, read | write, data_at, data_address, len(dynamic), 8),
        (stack, read | write, 0, 0, 0, 16),  # PT_GNU_STACK: the stack of the process stays non-executable
    )
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, alignment)
        for kind, flags, offset, address, size, alignment in segments
    )
    parts = (
        (0, header + table),
        (hash_at, hashes),
        (symbols_at, symbols),
        (relocations_at, relocation),
        (strings_at, strings),
        (text_at, text),
        (data_at, data),
    )
    content = bytearray(data_at + len(data))
    for offset, part in parts:
        content[offset : offset + len(part)] = part
    return bytes(content)


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


HOST: Final = "127.0.0.1"


def choose_unguessable_address() -> str:
    """A random address of 127.0.0.0/8, for a server that only this process asks; 127.0.0.1 where there is no other.

    A web page can send requests to every port of 127.0.0.1, but it cannot try 16 million addresses with all their
    ports.
    """
    address = "127.{}.{}.{}".format(*(1 + secrets.randbelow(254) for _ in range(3)))
    with socket.socket() as trial:
        try:
            trial.bind((address, 0))
        except OSError:  # a machine whose loopback device has one address
            return HOST
    return address


@contextlib.contextmanager
def hold_ports(wanted: Mapping[str, int | None], *, address: str = HOST) -> Iterator[dict[str, int | None]]:
    """Hold ports of a loopback address by name: 0 becomes a free one, None stays None.

    Raises:
        LaunchError: a port is given twice, is in use, or this user may not open it.
    """
    if sentence := describe_shared_port(wanted):
        raise LaunchError(sentence)
    with ExitStack() as stack:
        ports: dict[str, int | None] = {}
        for name, port in wanted.items():
            ports[name] = (
                None if port is None else stack.enter_context(_hold_port(name, port, address)).getsockname()[1]
            )
        yield ports


def describe_shared_port(wanted: Mapping[str, int | None]) -> str:
    """What is wrong where two front ends are to have one port; empty where none are."""
    owners: dict[int, str] = {}
    for name, port in wanted.items():
        if port and port in owners:
            return f"port {port} is given to both {owners[port]} and {name}; choose another one with --{name}-port"
        if port:
            owners[port] = name
    return ""


def port_in_use_error(name: str, port: int) -> LaunchError:
    """The error for a port that somebody else listens on."""
    return LaunchError(
        f"port {port} on {HOST} is in use; choose another one for {name} with --{name}-port (0: any free)"
    )


def is_open(port: int, *, address: str = HOST) -> bool:
    """Whether anybody listens on a port."""
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex((address, port)) == 0


def _hold_port(name: str, port: int, address: str) -> socket.socket:
    holder = socket.socket()
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((address, port))
    except (OSError, OverflowError) as error:
        holder.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise port_in_use_error(name, port) from error
        raise LaunchError(
            f"port {port} on {HOST} cannot be opened: {error}; choose another with --{name}-port"
        ) from error
    return holder
