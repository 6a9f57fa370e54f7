"""What a container isolates and what it does not, in sentences for people; and what to do when it is refused."""

from __future__ import annotations

from tritonforge.training.sandbox.limits import NO_LIMITS, Limits

__all__ = ["isolated", "refusal", "shared"]


def isolated(*, network: bool) -> tuple[str, ...]:
    """What is the container's own; ``network``: it was given this machine's network."""
    return (
        "its processes see only each other, and all end with the command",
        *([] if network else ["its network is loopback only: nothing outside, and no server of this machine"]),
        "of this machine's files it has the system's (/usr, /lib, parts of /etc), this Python, and what is bound",
        "home directories and all other data are hidden",
        "its files are read-only, except for what is bound writable; new files in other places are kept in memory",
        "it leaves no file with a set-user-ID or set-group-ID bit",
        "its environment, host name, IPC and devices are its own, and root has the rights that docker run leaves it",
    )


def shared(*, network: bool, limit: Limits = NO_LIMITS) -> tuple[str, ...]:
    """What the container shares with this machine, where one of an image would not, or differs in."""
    unlimited = [
        name
        for name, value in (
            ("memory (--memory)", limit.memory),
            ("CPU (--cpus)", limit.cpus),
            ("processes (--pids-limit)", limit.pids),
        )
        if value is None
    ]
    return (
        "the system's files, this Python and its packages are this machine's, readable, instead of an image's",
        "the kernel and the users are this machine's; there is no GPU",
        *([f"without a limit: {', '.join(unlimited)}"] if unlimited else []),
        *(
            ["the network is this machine's: it can call out, and its ports are this machine's ports"]
            if network
            else []
        ),
        "a SIGTERM that the command does not handle ends it; in a container it is process 1, and would ignore that",
    )


def refusal(what: str, *, root: bool) -> str:
    """The sentence for a start that the kernel refused; ``root``: the user is root already."""
    advice = (
        "inside a container give it the right to (docker run --privileged, or --security-opt seccomp=unconfined "
        "--cap-add SYS_ADMIN)"
        if root
        else "run as root, or let users make namespaces (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0)"
    )
    return f"the container cannot be isolated on this machine, so nothing was run: {what}; {advice}"
