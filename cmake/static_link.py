#!/usr/bin/env python3
"""Links one program statically: static_link.py COMPILER ARGUMENTS...

CMake's packages for gRPC, Abseil and the rest name shared libraries. Their archives lie beside them; this takes the
linker's command line and names those. Archives form one group, since they need each other in circles, and what
the shared libraries kept to themselves is added. One that is linked whole stays where it is: before those that have
the same names.
"""
import glob
import os
import re
import subprocess
import sys

SHARED = re.compile(r"(.*/lib[^/]+)\.so[.0-9]*$")
# What the shared libraries of gRPC link on their own.
HIDDEN = ("cares", "re2", "upb", "address_sorting", "gpr", "ssl", "crypto", "z")


def main() -> int:
    command, archives, folders = [], [], set()
    whole = False
    for argument in sys.argv[1:]:
        whole = argument.endswith("--whole-archive") or (whole and argument != "-Wl,--pop-state")
        match = SHARED.match(argument)
        if match:
            archive = match.group(1) + ".a"
            if not os.path.exists(archive):
                print(f"error: {argument} has no static archive {archive}", file=sys.stderr)
                return 1
            folders.add(os.path.dirname(archive))
            archives.append(archive)
        elif not whole and argument.endswith(".a") or re.fullmatch(r"-l\w+", argument):
            archives.append(argument)
        elif argument == "-rdynamic":
            continue
        else:
            command.append(argument)
    if any(re.search(r"/libgrpc\+?\+?\.a$", a) for a in archives):
        for folder in sorted(folders):
            archives += [f"{folder}/lib{name}.a" for name in HIDDEN if os.path.exists(f"{folder}/lib{name}.a")]
    if any("/libabsl_" in a for a in archives):
        for folder in sorted(folders):
            archives += sorted(glob.glob(f"{folder}/libabsl_*.a"))
    unique = list(dict.fromkeys(archives))
    return subprocess.call(command + ["-static", "-Wl,--start-group"] + unique + ["-Wl,--end-group"])


if __name__ == "__main__":
    sys.exit(main())
