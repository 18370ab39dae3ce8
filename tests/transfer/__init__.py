"""``redicts.transfer`` as a library, on stores in this process."""
