//! Nothing: this package only names the crates that have the sources.
