//! The oracles behind the fuzz targets.
