#!/bin/sh
# Builds the VM's kernel and initrd from packages. See docs/vm-image.md, or run with --help.
# Needs python3 (3.9 or later) and openssl; no root, no Docker.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

for tool in python3 openssl; do
  if ! command -v "$tool" >/dev/null 2>&1; then
    echo "error: $tool is not installed; the image cannot be built without it; install $tool and run again" >&2
    exit 1
  fi
done
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))'; then
  echo "error: $(python3 --version) is too old; Python 3.9 or later is needed" >&2
  exit 1
fi

PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" exec python3 -B -m vmimage "$@"
