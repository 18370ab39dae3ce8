"""The semantics of trees and locks, as steps without I/O. It imports no backend and no codec."""
