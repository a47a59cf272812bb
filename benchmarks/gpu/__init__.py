"""The kernels on a GPU: exact, repeatable, lean and fast? `python -m benchmarks.gpu` answers in one
command.
"""

import os
import sys

if "--interpret" in sys.argv:
    # read when triton is first imported, which the modules of this folder do
    os.environ["TRITON_INTERPRET"] = "1"
