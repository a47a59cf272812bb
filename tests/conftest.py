"""For every test: Ctrl-C works, also where the shell that started pytest in the background had it ignored."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
