"""The lock protocol: hierarchical, leased, fenced and fair, as steps of minitransactions.

``records``      the layout of lock records, and which of them conflict
``acquisition``  acquires one lock, at once or after waiting
``operations``   release, renew, withdraw, find, break
``deadlocks``    finds and resolves cycles among waiters
``guards``       applies writes only while a lock is held
"""
