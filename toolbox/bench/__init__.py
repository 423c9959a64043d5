"""Measure what the lessons claim, beside what a reader would use instead.

A benchmark is a file in `suite/`; `model` says what it may consist of, `worker` runs one row in a
process of its own, `rounds` runs all rows in turn, `report` shows the result.
"""
