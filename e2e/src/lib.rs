//! End-to-end tests: real nodes, real microVMs, real faults. The tests themselves are in `tests/`; this library is empty.
