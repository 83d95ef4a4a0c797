//! Stories on the whole platform; everything is in `tests/it`.
