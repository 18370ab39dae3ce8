"""The lock protocol: hierarchical, leased, fenced and fair, as steps over minitransactions.

``records``      how locks are stored, and which of them conflict
``acquisition``  how one request is granted, at once or after waiting
``operations``   acquire, release, renew, withdraw, find, break
``deadlocks``    cycles among waiters, found while waiting
``guards``       writes that are applied only while a lock is held
"""
