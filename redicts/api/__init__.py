"""The user API: databases, the pool, proxies, transactions and locks."""
