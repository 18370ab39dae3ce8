"""The user API: proxies, the pool, databases and transactions."""
