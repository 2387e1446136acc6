//! Settings: one file a section, loaded once, checked before anything binds.
