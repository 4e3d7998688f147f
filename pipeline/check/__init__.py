"""Whether everything in git is what the pipeline would make: `python -m pipeline.check`.

A rule is a function that yields its findings, a sentence each that names the thing and the fix.
"""
