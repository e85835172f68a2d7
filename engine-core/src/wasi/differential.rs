//! Ours against wasi-common: the same calls, the same errnos, the same memory.
