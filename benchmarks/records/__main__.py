"""python -m benchmarks.records"""

import sys

from benchmarks.records.pages import main

sys.exit(main())
