"""The commands of dvc.yaml, and those that people use; each module is one."""

import gc
import sys

# Imports make a million objects that all stay: collecting garbage among them takes a third of a
# start. `run_command` goes on with it. (-m is the name until the module is found.)
if sys.argv[:1] == ["-m"]:
    gc.disable()
