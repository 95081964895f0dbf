#!/usr/bin/env python3
"""Becomes a command under a seccomp profile, as a container runtime would start it.

  scripts/lib/deploy/seccomp_exec.py deploy/container/seccomp.json -- tickstream serve
  scripts/lib/deploy/seccomp_exec.py --descriptor 3 deploy/container/seccomp.json -- bwrap … --seccomp 3 tickstream serve

With --descriptor the command isn't confined, but gets the filter, compiled, under that number.

Reads the profiles of Docker and of OCI runtimes (architectures, not archMap; neither includes nor excludes) and loads
them with libseccomp, with no-new-privileges set. Needs libseccomp.so.2, which is on every Debian with systemd.
"""

import argparse
import ctypes
import errno
import json
import os
import platform
import sys

# seccomp.h
ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_KILL_PROCESS": 0x80000000, "SCMP_ACT_LOG": 0x7FFC0000}
ACT_ERRNO = 0x00050000
COMPARISONS = {"SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5,
               "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7}
ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


class Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operation", ctypes.c_int), ("a", ctypes.c_uint64),
                ("b", ctypes.c_uint64)]


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--descriptor", type=int, metavar="N")
    given.add_argument("profile")
    given.add_argument("command", nargs="+")
    arguments = given.parse_args()
    with open(arguments.profile) as file:
        profile = json.load(file)
    library = ctypes.CDLL("libseccomp.so.2")
    context = filter_of(library, profile)
    if arguments.descriptor is None:
        check(library.seccomp_load(context), "the kernel refuses the filter")
    else:
        file = os.memfd_create("seccomp")
        check(library.seccomp_export_bpf(context, file), "the filter can't be compiled")
        os.lseek(file, 0, os.SEEK_SET)
        os.dup2(file, arguments.descriptor)
        # Also where both were the same number.
        os.set_inheritable(arguments.descriptor, True)
    os.execvp(arguments.command[0], arguments.command)


def filter_of(library, profile):
    """The profile as libseccomp's filter."""
    library.seccomp_init.restype = ctypes.c_void_p
    own = ARCHITECTURES.get(platform.machine())
    if own not in profile["architectures"]:
        sys.exit(f"the profile isn't for {platform.machine()}")
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(action(profile, "defaultAction", "defaultErrnoRet"))))
    if not context:
        sys.exit("libseccomp refuses the default action")
    for rule in profile["syscalls"]:
        comparisons = [comparison(argument) for argument in rule.get("args", [])]
        for name in rule["names"]:
            add(library, context, action(rule, "action", "errnoRet"), name, comparisons)
    return context


def add(library, context, verdict, name, comparisons):
    number = library.seccomp_syscall_resolve_name(name.encode())
    # -1: a name that this libseccomp doesn't know; a runtime passes over it, too.
    if number == -1:
        return
    array = (Comparison * len(comparisons))(*comparisons)
    result = library.seccomp_rule_add_array(context, ctypes.c_uint32(verdict), number, len(comparisons), array)
    check(result, f"a rule for {name} is refused")


def action(owner, key, errno_key):
    name = owner[key]
    if name == "SCMP_ACT_ERRNO":
        return ACT_ERRNO | owner.get(errno_key, errno.EPERM)
    return ACTIONS[name]


def comparison(argument):
    # MASKED_EQ has the mask first, then what is left of the argument under it.
    return Comparison(argument["index"], COMPARISONS[argument["op"]], argument["value"], argument.get("valueTwo", 0))


def check(result, what):
    if result != 0:
        sys.exit(f"{what}: {os.strerror(-result)}")


if __name__ == "__main__":
    main()
