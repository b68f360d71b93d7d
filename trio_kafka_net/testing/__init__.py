"""Tools for testing servers and applications; shipped for users, used by our own tests."""
