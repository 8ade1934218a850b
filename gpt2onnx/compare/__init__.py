"""Compares a model on several providers and precisions: answers, speed, cost, placement.

Measures what the runtime does, each measurement in a process of its own, and makes a record, a
table and a page of it. Knows no command line, and the export as a function that is passed in.
"""
