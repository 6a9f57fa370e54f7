"""Calls of the Linux kernel: namespaces, mounts, a network interface, and a process's capabilities. An edge.

Python has no binding for most of them (``os.unshare`` came with 3.12), so they use the C library. Every function raises
`KernelError`, with the call and the kernel's answer. Only the standard library is imported.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
from pathlib import Path
from typing import Any, Final

__all__ = [
    "ADDRESS", "CAPABILITIES", "IPC", "MOUNT", "NETWORK", "PID", "USER", "UTS", "KernelError", "bind",
    "bring_up_loopback", "detach", "die_with_parent", "drop_capabilities", "enter_root", "has_admin_capability",
    "isolate_mounts", "mount", "protect", "unshare",
]  # fmt: skip

# include/uapi/linux/sched.h
MOUNT: Final = 0x00020000
UTS: Final = 0x04000000
IPC: Final = 0x08000000
USER: Final = 0x10000000
PID: Final = 0x20000000
NETWORK: Final = 0x40000000

# include/uapi/linux/mount.h
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOEXEC: Final = 8
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_PRIVATE: Final = 1 << 18
_MNT_DETACH: Final = 2
_MOUNT_ATTR_RDONLY: Final = 1
_MOUNT_ATTR_NOSUID: Final = 2
_MOUNT_ATTR_NODEV: Final = 4
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000

_MOUNT_SETATTR: Final = 442  # the same number on every machine: Linux 5.12
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}

# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24
_SIGKILL: Final = 9

_SYS_ADMIN: Final = 21

#: The capabilities of a container's root (include/uapi/linux/capability.h): Docker's, less MKNOD (which could create a
#: device of this machine), SETFCAP (which could leave a program with root's capabilities in a bound folder) and
#: AUDIT_WRITE. Source: Docker's documentation, "Runtime privilege and Linux capabilities".
CAPABILITIES: Final = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_RAW": 13,
    "SYS_CHROOT": 18,
}

#: The container's own address besides loopback (RFC 5737: for documentation, not routed). Published ports are connected
#: at this address, as Docker does at eth0's: a server that listens on 127.0.0.1 only is reached by neither.
ADDRESS: Final = "192.0.2.2"


class KernelError(OSError):
    """The kernel rejected a call; ``what`` describes the call."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(number, os.strerror(number))
        self.what = what

    def __str__(self) -> str:
        return f"{self.what}: {self.strerror}"


def unshare(namespaces: int, what: str) -> None:
    """Put this process into new namespaces (unshare(2)); for `PID` only its children.

    ``what`` describes them in errors. With `USER` this process's user becomes root inside, and no other user exists.
    """
    user, group = os.geteuid(), os.getegid()
    result = _load_libc().unshare(ctypes.c_int(namespaces))
    if result == -1 and ctypes.get_errno() == errno.ENOSPC:  # the kernel's number for an exceeded limit
        raise KernelError(f"unshare {what} (the limit on such namespaces, sysctl user.max_*_namespaces)", errno.ENOSPC)
    _check_result(f"unshare {what}", result)
    if namespaces & USER:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        except OSError as error:
            raise KernelError("map this user to the namespace's root", error.errno or errno.EPERM) from error


def isolate_mounts() -> None:
    """Create a mount namespace for this process, from which no mount propagates to the original one."""
    unshare(MOUNT, "mounts")
    _mount("keep mounts private", None, Path("/"), None, _MS_REC | _MS_PRIVATE)


def mount(kind: str, target: Path, options: str = "", *, executable: bool = True, devices: bool = False) -> None:
    """Mount a file system of the kernel (tmpfs, proc, devpts) at an existing folder."""
    flags = _MS_NOSUID | (0 if devices else _MS_NODEV) | (0 if executable else _MS_NOEXEC)
    _mount(f"mount {kind} at {target}", kind, target, kind, flags, options)


def bind(source: Path, target: Path) -> None:
    """Show ``source``, with the mounts below it, at ``target`` as well."""
    _mount(f"bind {source} to {target}", str(source), target, None, _MS_BIND | _MS_REC)


def protect(target: Path, *, devices: bool = False, writable: bool = False) -> None:
    """Make a mount and all below it read-only, without set-user-id bits and device files.

    With ``devices`` device files still work; with ``writable`` only the other two are changed.
    """
    attributes = _MOUNT_ATTR_NOSUID
    attributes |= 0 if devices else _MOUNT_ATTR_NODEV
    attributes |= 0 if writable else _MOUNT_ATTR_RDONLY
    request = ctypes.create_string_buffer(struct.pack("=QQQQ", attributes, 0, 0, 0), 32)
    result = _load_libc().syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        _encode_path(target),
        ctypes.c_uint(_AT_RECURSIVE),
        request,
        ctypes.c_size_t(32),
    )
    _check_result(f"protect {target} (mount_setattr, Linux 5.12 or newer)", result)


def enter_root(folder: Path, before: Path) -> None:
    """Make the mount at ``folder`` this process's root; the old root is then at ``before``, in or below it."""
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise KernelError(f"change the root on {platform.machine()}", errno.ENOSYS)
    _check_result(
        "change the root", _load_libc().syscall(ctypes.c_long(number), _encode_path(folder), _encode_path(before))
    )


def detach(target: Path) -> None:
    """Hide a mount, with all below it; it is removed when it is not in use."""
    _check_result(f"detach {target}", _load_libc().umount2(_encode_path(target), ctypes.c_int(_MNT_DETACH)))


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends, however it ends."""
    _set_process_option("die with the parent", _PR_SET_PDEATHSIG, _SIGKILL)


def has_admin_capability() -> bool:
    """Return True if this process may create namespaces and mounts without a user namespace (CAP_SYS_ADMIN)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _SYS_ADMIN & 1)
    return False


def drop_capabilities() -> None:
    """Limit programs that are executed from here on, those of root too, to `CAPABILITIES`."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in range(last + 1):
        if number not in CAPABILITIES.values():
            _check_result(
                "give up a capability",
                _load_libc().prctl(ctypes.c_int(_PR_CAPBSET_DROP), ctypes.c_ulong(number), 0, 0, 0),
            )


def bring_up_loopback() -> None:
    """Bring up loopback in a new network namespace, with `ADDRESS` as a second address.

    Source: netdevice(7).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            _set_flags(control, b"lo")
            for request, address in ((0x8916, ADDRESS), (0x891C, "255.255.255.255")):  # SIOCSIFADDR, SIOCSIFNETMASK
                where = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
                fcntl.ioctl(control, request, struct.pack("=16s16s8x", b"lo:1", where))
            _set_flags(control, b"lo:1")
        except OSError as error:
            raise KernelError("bring loopback up", error.errno or errno.EPERM) from error


def _set_flags(control: socket.socket, name: bytes) -> None:
    up_and_running = 0x1 | 0x40
    fcntl.ioctl(control, 0x8914, struct.pack("=16sh22x", name, up_and_running))  # SIOCSIFFLAGS


def _mount(what: str, source: str | None, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    result = _load_libc().mount(
        None if source is None else ctypes.c_char_p(os.fsencode(source)),
        _encode_path(target),
        None if kind is None else ctypes.c_char_p(kind.encode()),
        ctypes.c_ulong(flags),
        ctypes.c_char_p(options.encode()) if options else None,
    )
    _check_result(what, result)


def _set_process_option(what: str, option: int, value: int) -> None:
    nothing = ctypes.c_ulong(0)
    _check_result(what, _load_libc().prctl(ctypes.c_int(option), ctypes.c_ulong(value), nothing, nothing, nothing))


def _encode_path(path: Path) -> ctypes.c_char_p:
    return ctypes.c_char_p(os.fsencode(path))


def _load_libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _check_result(what: str, result: int) -> None:
    if result == -1:
        raise KernelError(what, ctypes.get_errno())
