"""Parity: the same pictures and prompts, from file and text to score, by the official packages and by our scorers.

`make parity` runs it on random checkpoints in isolated environments, ``psdbench verify-scorers`` on the official
ones and with interpreters of the user's.
"""
