"""Runs a module of this folder as a program: python3 tests MODULE [ARGUMENT]…

    python3 tests faults 16 34              # tests/faults/__main__.py
    python3 tests protocol.test_protocol    # tests/protocol/test_protocol.py

Modules import each other by these names, and what they share from `support`. `python3 -m` with PYTHONPATH=tests does the same.
"""

import runpy
import sys

if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
