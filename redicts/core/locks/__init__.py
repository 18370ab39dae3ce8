"""The lock protocol: hierarchical, leased, fenced and fair, as steps over minitransactions.

``records``     how locks lie in the store, and which of them conflict
``protocol``    acquire, release, renew, withdraw, break
``deadlocks``   cycles among waiters, found while waiting
``guards``      writes that are applied only while a lock is held
"""
