"""Tuning: the search for a method's parameters, and what it leaves behind."""
