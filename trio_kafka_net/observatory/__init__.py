"""A running broker as it is seen from outside: figures and documents, for endpoint and monitor."""
