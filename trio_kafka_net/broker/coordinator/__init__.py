"""Coordinators: who is in a group, and what it has committed."""
