"""The lock manager of a database: the locks that threads and tasks of this process hold.

``owner``           the running lock owner: a thread or an asyncio task
``held``            one held lock, and the path index of held locks
``manager``         acquire, rely on, release, renew and guard writes, as steps
``renewal``         renews leases, calls callbacks, and withdraws leftovers in the background
``retention``       bounded barging: an owner reacquires its lock without a request
``scheduler``       runs scheduled items in a thread that exits when idle
``exit_callbacks``  runs callbacks before the process ends
"""
