//! Constants that the engine's threads share.

/// The stack size of a thread that deploys or compiles: parsers and compilers recurse deeply, and the stack of the
/// calling thread may be small.
pub(crate) const DEPLOY_STACK: usize = 8 << 20;
