//! One list of what is not as it should be, although nothing fails.

use super::shared::Shared;

/// Warnings of this engine, in words for the log. The list only grows at its end.
pub(super) fn all(shared: &Shared) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(why) = &shared.pool_problem {
        warnings.push(format!(
            "there is no memory pool: {why}; every sandbox gets its memory from its backend, which is slower"
        ));
    }
    if let Some(why) = shared.slots.pool().and_then(|pool| pool.scan_unavailable()) {
        warnings.push(format!(
            "memory slots are reset without a page scan: {why}; resets are slower, in proportion to the memory a guest has"
        ));
    }
    if let Some(cache) = &shared.loader.cache {
        warnings.extend(cache.warnings());
    }
    warnings
}
