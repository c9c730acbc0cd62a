"""Runs rounds: clock, assignment, wire records, stages. The only room that sees all the others."""
