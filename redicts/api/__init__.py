"""What users hold: the pool, proxies, transactions and locks."""
