"""Figures of a running server: plain numbers where the work is done, named when somebody looks."""
