"""Servers, proxies and waiting, for the other tests; and the tests of these."""
