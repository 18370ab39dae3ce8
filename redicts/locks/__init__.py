"""What this process knows of the locks that its threads and tasks hold.

``owner``           who is running: a thread or an asyncio task
``held``            one held lock, and the path index that finds it
``manager``         acquire, rely on, release, renew and guard writes, as steps
``renewal``         renews locks, tells of overdue renewals and losses, withdraws leftovers
``retention``       lets an owner come back to its lock for a few milliseconds
``scheduler``       a thread that runs scheduled items
``exit_callbacks``  runs callbacks before the process ends
"""
