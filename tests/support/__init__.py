"""Servers, a fault proxy, stores and waiting, for the other tests; and the tests of these."""
