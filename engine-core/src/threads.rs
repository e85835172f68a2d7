//! What the engine's threads have in common.

/// The stack of a thread that deploys or compiles: parsers and compilers recurse, and the calling thread may have little.
pub(crate) const DEPLOY_STACK: usize = 8 << 20;
