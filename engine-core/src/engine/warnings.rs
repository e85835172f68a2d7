//! The list of an engine's warnings: problems that do not make anything fail.

use super::shared::{Narrow, Shared};

/// The warnings of this engine, as texts for the log. New ones are added at the end only.
pub(super) fn all(shared: &Shared) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(why) = &shared.pool_problem {
        warnings.push(format!(
            "there is no memory pool: {why}; every sandbox allocates its memory, which is slower"
        ));
    }
    warnings.extend(shared.narrow.as_ref().map(Narrow::warning));
    if let Some(why) = shared.slots.pool().and_then(|pool| pool.scan_unavailable()) {
        warnings.push(format!(
            "memory slots are reset without a page scan: {why}; the more memory a guest has, the slower each reset is"
        ));
    }
    match &shared.loader.cache {
        // Its list has the compiler's warning in its place.
        Some(cache) => warnings.extend(cache.warnings()),
        None => warnings.extend(shared.loader.compiler.problem().map(str::to_owned)),
    }
    warnings
}
