"""The console monitor."""
